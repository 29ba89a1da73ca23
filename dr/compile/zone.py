"""From declaration to landing zone. Pure."""

from __future__ import annotations

from collections import Counter

from dr.compile import names, security
from dr.compile.zone_blueprint import (
    AlertBlueprint,
    BastionBlueprint,
    BudgetBlueprint,
    CapacityBlueprint,
    GatewayBlueprint,
    NatBlueprint,
    NetworkBlueprint,
    PrivateZoneBlueprint,
    ReservationBlueprint,
    SubnetBlueprint,
    WatchBlueprint,
    ZoneBlueprint,
)
from dr.model import Bastion, Declaration, Gateway, GatewayKind, Network, Site

BASTION_SUBNET = "AzureBastionSubnet"  # the names that Azure asks for
GATEWAY_SUBNET = "GatewaySubnet"
ZONES = ("1", "2", "3")
DELETIONS = (
    "Microsoft.Authorization/locks/delete",
    "Microsoft.KeyVault/vaults/delete",
    "Microsoft.RecoveryServices/vaults/delete",
    "Microsoft.Resources/subscriptions/resourceGroups/delete",
    "Microsoft.Storage/storageAccounts/blobServices/containers/delete",
    "Microsoft.Storage/storageAccounts/delete",
)
PEERINGS = ("Microsoft.Network/virtualNetworks/virtualNetworkPeerings/write",)


def zone(declaration: Declaration) -> ZoneBlueprint:
    """Return the landing zone; what the declaration leaves out is absent."""
    site = declaration.site
    return ZoneBlueprint(
        production=_production(site),
        nat=NatBlueprint(names.nat_gateway(site.name), names.public_address(site.name, "nat")),
        drill=None if site.drill_network is None else _drill(site, site.drill_network),
        private_zone=_private_zone(site.private_dns_zone),
        bastion=None if site.bastion is None else _bastion(site, site.bastion),
        gateway=None if site.gateway is None else _gateway(site, site.gateway),
        capacity=_capacity(declaration) if site.capacity_reservation else (),
        budget=_budget(site),
        watch=_watch(site) if site.alerts else None,
    )


def _production(site: Site) -> NetworkBlueprint:
    bastion_prefix = None if site.bastion is None else site.bastion.prefix
    return NetworkBlueprint(
        name=names.virtual_network(site.name),
        address_space=site.network.address_space,
        subnets=tuple(
            SubnetBlueprint(
                name=subnet.name,
                prefix=subnet.prefix,
                security_group=names.security_group(site.name, subnet.name),
                rules=security.production(subnet.inbound_ports, bastion_prefix),
                nat_gateway=True,
            )
            for subnet in site.network.subnets
        ),
    )


def _drill(site: Site, declared: Network) -> NetworkBlueprint:
    return NetworkBlueprint(
        name=names.drill_network(site.name),
        address_space=declared.address_space,
        subnets=tuple(
            SubnetBlueprint(
                name=subnet.name,
                prefix=subnet.prefix,
                security_group=names.drill_security_group(site.name, subnet.name),
                rules=security.drill(declared.address_space, subnet.inbound_ports),
            )
            for subnet in declared.subnets
        ),
    )


def _private_zone(declared: str | None) -> PrivateZoneBlueprint | None:
    return None if declared is None else PrivateZoneBlueprint(declared, "production")


def _bastion(site: Site, declared: Bastion) -> BastionBlueprint:
    group = names.bastion_security_group(site.name)
    return BastionBlueprint(
        host=names.bastion(site.name),
        public_address=names.public_address(site.name, "bastion"),
        subnet=SubnetBlueprint(
            BASTION_SUBNET, declared.prefix, group, security.bastion(), default_outbound_access=None
        ),
    )


def _gateway(site: Site, declared: Gateway) -> GatewayBlueprint:
    vpn = declared.kind is GatewayKind.VPN
    return GatewayBlueprint(
        kind=declared.kind,
        gateway=names.gateway(site.name),
        sku=declared.sku,
        public_address=names.public_address(site.name, "gateway"),
        zones=ZONES if declared.sku.endswith("AZ") or declared.sku == "ErGwScale" else (),
        subnet=SubnetBlueprint(GATEWAY_SUBNET, declared.prefix, default_outbound_access=None),
        connection=names.connection(site.name),
        secret=declared.shared_key if vpn else declared.authorization,
        secret_stands_at="site: gateway.vpn.sharedKey" if vpn else "site: gateway.expressRoute.authorization",
        peer=names.gateway_peer(site.name) if vpn else None,
        peer_address=declared.peer_address,
        site_prefixes=declared.site_prefixes,
        circuit=declared.circuit,
    )


def _capacity(declaration: Declaration) -> tuple[CapacityBlueprint, ...]:
    targets = [server.target for server in declaration.servers.values()]
    counted = Counter((target.zone or "", target.size) for target in targets)
    site = declaration.site.name
    return tuple(
        CapacityBlueprint(
            group=names.capacity_group(site, place or None),
            zone=place or None,
            reservations=tuple(
                ReservationBlueprint(names.reservation(size, place or None), size, count)
                for (where, size), count in sorted(counted.items())
                if where == place
            ),
        )
        for place in sorted({place for place, _ in counted})
    )


def _budget(site: Site) -> BudgetBlueprint | None:
    if site.budget is None:
        return None
    return BudgetBlueprint(names.budget(site.name), site.budget.monthly_amount, f"{site.budget.starts}T00:00:00Z")


def _watch(site: Site) -> WatchBlueprint:
    vault = f"/resourceGroups/{names.vault_resource_group(site)}"
    own = f"/resourceGroups/{names.site_resource_group(site)}"
    alerts = (
        AlertBlueprint(
            names.alert(site.name, "vault-deletion"),
            "Something of the vault, which holds the recovery points, was deleted.",
            vault,
            "Administrative",
            DELETIONS,
        ),
        AlertBlueprint(
            names.alert(site.name, "peering"),
            "A network of the landing zone was connected to another one: drills may have lost their isolation.",
            own,
            "Administrative",
            PEERINGS,
        ),
        AlertBlueprint(
            names.alert(site.name, "resource-health"), "A part of the landing zone is not well.", own, "ResourceHealth"
        ),
        AlertBlueprint(names.alert(site.name, "service-health"), "Azure itself has trouble.", "", "ServiceHealth"),
    )
    return WatchBlueprint(names.action_group(site.name), site.alerts, names.workspace(site.name), alerts)
