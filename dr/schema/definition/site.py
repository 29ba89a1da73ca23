"""The shape of the Site: where the servers stand, and their landing zone in Azure.

Lengths of names follow from Azure's limits and `dr.compile.names`: the longest name that is made of them must fit.
"""

from __future__ import annotations

from dr.schema.definition.words import (
    SERVER_NAME_LENGTH,
    Schema,
    address,
    array,
    choice,
    document,
    exactly_one,
    host,
    mapping,
    name,
    number,
    port,
    prefix,
    refused,
    secret,
    text,
    truth,
)

SITE_NAME_LENGTH = 24
SUBNET_NAME_LENGTH = 40

# Azure gives a subnet of these names a meaning, whatever their case.
_RESERVED_SUBNETS = [
    refused("^(?i:gatewaysubnet)$", "can't be declared: it is made from gateway.prefix; take it out"),
    refused("^(?i:azurebastionsubnet)$", "can't be declared: it is made from bastion.prefix; take it out"),
    refused(
        "^(?i:azurefirewall(management)?subnet|routeserversubnet)$",
        "can't be declared: Azure keeps that name for a service that Lifeboat doesn't use; choose another",
    ),
]
_OUR_RESOURCE_GROUPS = [
    refused(
        "^(?i:rg-lifeboat-)",
        "can't be declared: such names are Lifeboat's own, and resource groups of ended runs are deleted by them;"
        " choose another, or leave it out for the default",
    )
]
_PREMIUM = [
    refused(
        "^(?i:premium)",
        "can't hold recovery points: each is a snapshot, and a premium account takes 100 of a page blob; write LRS,"
        " ZRS, GRS or GZRS",
    )
]

_SUBNET = mapping(
    "One subnet, with its own security group.",
    {
        "name": name(
            "Name of the subnet; servers refer to it.", SUBNET_NAME_LENGTH, **{"x-refused": _RESERVED_SUBNETS}
        ),
        "prefix": prefix("Addresses of the subnet, inside `addressSpace`, /8 to /29."),
        "inboundPorts": array(
            "TCP ports that the security group lets in; everything else is closed. A health check's port must be one"
            " of them.",
            port("A TCP port."),
            least=0,
            most=100,
            default=[],
            uniqueItems=True,
        ),
    },
    ["name", "prefix"],
)


def _network(description: str) -> Schema:
    return mapping(
        description,
        {
            "addressSpace": prefix("Addresses of the whole network, /8 to /29."),
            "subnets": array("The network's subnets; they may not overlap.", _SUBNET, most=100),
        },
        ["addressSpace", "subnets"],
    )


def _resource_group(description: str) -> Schema:
    return text(
        description,
        "^[A-Za-z0-9_().-]*[A-Za-z0-9_()-]$",
        "a name of a resource group: letters, digits, `_`, `-`, `.`, `(` and `)`, not ending with `.`",
        maxLength=90,
        **{"x-refused": _OUR_RESOURCE_GROUPS},
    )


_GATEWAY = mapping(
    "The gateway that the data of a failback comes home through: exactly one of `vpn` and `expressRoute`.",
    {
        "prefix": prefix("Addresses of its subnet, inside the network's `addressSpace`, /27 or larger."),
        "vpn": mapping(
            "A site-to-site VPN (IPsec).",
            {
                "sku": text(
                    "Size of the gateway.",
                    "^VpnGw[1-5](AZ)?$",
                    "a VPN gateway's size, VpnGw1 to VpnGw5 or VpnGw1AZ to VpnGw5AZ",
                    default="VpnGw1AZ",
                ),
                "peerAddress": address("Public address of the site's VPN device."),
                "sitePrefixes": array("Networks of the site behind that device.", prefix("A network."), most=100),
                "sharedKey": secret("The key that both ends share."),
            },
            ["peerAddress", "sitePrefixes", "sharedKey"],
        ),
        "expressRoute": mapping(
            "An ExpressRoute circuit with private peering.",
            {
                "sku": text(
                    "Size of the gateway.",
                    "^ErGw[1-3]AZ$",
                    "an ExpressRoute gateway's size, ErGw1AZ to ErGw3AZ",
                    default="ErGw1AZ",
                ),
                "circuit": text(
                    "Resource id of the circuit.",
                    "^/subscriptions/[0-9A-Fa-f-]{36}/resourceGroups/[^/\\s]+/providers/Microsoft\\.Network"
                    "/expressRouteCircuits/[^/\\s]+$",
                    "the resource id of a circuit, /subscriptions/…/providers/Microsoft.Network/expressRouteCircuits/…",
                ),
                "authorization": secret("The authorization key of a circuit in another subscription."),
            },
            ["circuit"],
        ),
    },
    ["prefix"],
    oneOf=exactly_one("vpn", "expressRoute"),
)

_LANDING_ZONE = {
    "resourceGroups": mapping(
        "Names of the two standing resource groups, where a company has rules for them. They can't be changed later.",
        {
            "vault": _resource_group("Of the vault; `rg-lifeboat-SITE-vault` when left out."),
            "site": _resource_group("Of the landing zone; `rg-lifeboat-SITE-site` when left out."),
        },
        [],
    ),
    "storage": mapping(
        "The storage account that holds replicas and recovery points: standard, general-purpose v2.",
        {
            "redundancy": choice(
                "How Azure keeps each byte: three times in one place, in three zones, and each of both also in a"
                " second region.",
                "LRS",
                "ZRS",
                "GRS",
                "GZRS",
                default="LRS",
                **{"x-refused": _PREMIUM},
            )
        },
        [],
    ),
    "endpoints": choice(
        "How the vault's storage and keys are reached: at public addresses, or at private ones in the network only.",
        "public",
        "private",
        default="public",
    ),
    "network": _network("The virtual network that recovered servers live in."),
    "drillNetwork": _network(
        "The network that drills run in, without a way to production or to the Internet. It is always a network of its"
        " own, never production's; nothing connects the two, so it may have the same addresses, and drilled servers"
        " then keep theirs. A server is put in the subnet of the same name, else in the first one by name."
    ),
    "gateway": _GATEWAY,
    "privateDnsZone": text(
        "A private DNS zone, linked to the network, that recovered servers are entered in by name.",
        "^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+$",
        "a domain of two labels or more in lower case, such as shop.example.internal",
        maxLength=200,
        **{
            "x-refused": [
                refused(
                    "(?i:(^|\\.)(azure|windows|microsoft|azurewebsites)\\.(com|net))$",
                    "can't be declared: it would hide Azure's own names from the network; take a domain of yours",
                )
            ]
        },
    ),
    "bastion": mapping(
        "Azure Bastion in the network, to reach recovered servers from a browser.",
        {"prefix": prefix("Addresses of its subnet, inside the network's `addressSpace`, /26 or larger.")},
        ["prefix"],
    ),
    "capacityReservation": truth("Reserve the VM sizes of all servers in Azure, at their price.", default=False),
    "budget": mapping(
        "A monthly budget on the site's resource group; `alerts` are told at 80 and 100 %.",
        {
            "monthlyAmount": number("Amount in the subscription's currency.", 1, 1_000_000_000),
            "starts": text(
                "The month that it counts from.", "^20[0-9]{2}-(0[1-9]|1[0-2])$", "a month, such as 2027-01"
            ),
        },
        ["monthlyAmount", "starts"],
    ),
    "alerts": array(
        "E-mail addresses of the action group.",
        text(
            "An e-mail address.",
            "^[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\\.[A-Za-z0-9-]+)+$",
            "an e-mail address",
            maxLength=254,
        ),
        least=0,
        most=50,
        default=[],
    ),
}

SITE = document(
    "Site",
    "The source location and its landing zone in Azure. A declaration has exactly one.",
    name("Name of the site. Every name in Azure is made from it, so it can't be changed later.", SITE_NAME_LENGTH),
    {
        "target": choice(
            "What commands mean when they are not told: this machine playing Azure, or Azure.",
            "local",
            "azure",
            default="local",
        ),
        "location": text(
            "The Azure region that everything is made in.",
            "^[a-z]+[a-z0-9]*$",
            "the short name of an Azure region, such as westeurope",
            maxLength=40,
        ),
        "subscription": text(
            "The Azure subscription, needed for target azure. Target local has its own.",
            "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
            "a subscription id: 36 characters, lower-case hexadecimal digits and hyphens",
        ),
        **_LANDING_ZONE,
        "configurationServer": mapping(
            "Where agents and operators reach the configuration server, as seen from the protected servers.",
            {"address": host("Address or host name."), "port": port("HTTPS port.", 443)},
            ["address"],
        ),
        "processServers": array(
            "Where agents send replication data, in order of preference.",
            mapping(
                "One process server.",
                {
                    "name": name("Name of the process server.", SERVER_NAME_LENGTH),
                    "address": host("Address or host name, as seen from the protected servers."),
                    "port": port("HTTPS port.", 9443),
                },
                ["name", "address"],
            ),
        ),
    },
    ["location", "network", "configurationServer", "processServers"],
)
