"""Security rules of the landing zone's subnets. Pure.

Azure's way with them: in each direction the matching rule with the lowest priority number decides; behind the
declared ones stand Azure's own, which let the network in and everything out. So a direction that is to be closed ends
in a rule of ours that denies all: then it stays closed whatever Azure puts into a service tag later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FIRST_PRIORITY = 100  # the lowest and the highest that a rule of ours may have
LAST_PRIORITY = 4096
ANY = "*"
INBOUND, OUTBOUND = "Inbound", "Outbound"
ALLOW, DENY = "Allow", "Deny"

VIRTUAL_NETWORK = "VirtualNetwork"
INTERNET = "Internet"
PLATFORM_DNS = "AzurePlatformDNS"  # Azure's resolver is outside all rules but those that name it
LOAD_BALANCER = "AzureLoadBalancer"

SHELL_PORTS = ("22", "3389")
BASTION_PORTS = ("5701", "8080")  # what the instances of one Bastion say to each other


@dataclass(frozen=True, slots=True)
class SecurityRule:
    name: str
    priority: int
    direction: str
    access: str
    protocol: str  # "Tcp" or "*"
    source: str  # a prefix, a service tag or "*"
    destination: str
    ports: tuple[str, ...]  # of the destination: "22", "8000-8010" or "*"


def production(inbound_ports: Sequence[int], bastion_prefix: str | None) -> tuple[SecurityRule, ...]:
    """Return the rules of a production subnet: the declared TCP ports from anywhere, Bastion's sessions, no more."""
    allowed = [
        SecurityRule(f"allow-tcp-{port}", FIRST_PRIORITY + index, INBOUND, ALLOW, "Tcp", ANY, ANY, (str(port),))
        for index, port in enumerate(inbound_ports)
    ]
    if bastion_prefix is not None:
        allowed.append(
            SecurityRule("allow-bastion", LAST_PRIORITY - 1, INBOUND, ALLOW, "Tcp", bastion_prefix, ANY, SHELL_PORTS)
        )
    return (*allowed, _all("deny-the-rest", LAST_PRIORITY, INBOUND, DENY))


def drill(address_space: str, inbound_ports: Sequence[int]) -> tuple[SecurityRule, ...]:
    """Return the rules of a drill subnet: the declared TCP ports from its own network, and nothing else, both ways.

    So a drill lets in what production would, and one that passes was not helped by open doors. Its own network is
    named as a prefix: the tag `VirtualNetwork` would also let in whatever is connected later, and denying it alone
    would part the drill's servers from each other.
    """
    allowed = (
        SecurityRule(
            f"allow-tcp-{port}",
            FIRST_PRIORITY + index,
            INBOUND,
            ALLOW,
            "Tcp",
            address_space,
            address_space,
            (str(port),),
        )
        for index, port in enumerate(inbound_ports)
    )
    return (
        *allowed,
        _deny_tag(3000, INBOUND, VIRTUAL_NETWORK),
        _deny_tag(3010, INBOUND, INTERNET),
        _all("deny-the-rest", LAST_PRIORITY, INBOUND, DENY),
        SecurityRule("allow-drill", FIRST_PRIORITY, OUTBOUND, ALLOW, ANY, address_space, address_space, (ANY,)),
        _deny_tag(3000, OUTBOUND, VIRTUAL_NETWORK),
        _deny_tag(3010, OUTBOUND, INTERNET),
        _deny_tag(3020, OUTBOUND, PLATFORM_DNS),
        _all("deny-the-rest", LAST_PRIORITY, OUTBOUND, DENY),
    )


def _deny_tag(priority: int, direction: str, tag: str) -> SecurityRule:
    source, destination = (tag, ANY) if direction == INBOUND else (ANY, tag)
    return SecurityRule(f"deny-{tag.lower()}", priority, direction, DENY, ANY, source, destination, (ANY,))


def bastion() -> tuple[SecurityRule, ...]:
    """Return the rules without which Azure refuses a security group on AzureBastionSubnet, or stops updating it.

    Source: Azure's documentation, "Configure NSG rules for Azure Bastion".
    """
    return (
        SecurityRule("allow-https", 100, INBOUND, ALLOW, "Tcp", INTERNET, ANY, ("443",)),
        SecurityRule("allow-gateway-manager", 110, INBOUND, ALLOW, "Tcp", "GatewayManager", ANY, ("443",)),
        SecurityRule("allow-load-balancer", 120, INBOUND, ALLOW, "Tcp", LOAD_BALANCER, ANY, ("443",)),
        _between_instances(130, INBOUND),
        _all("deny-the-rest", LAST_PRIORITY, INBOUND, DENY),
        SecurityRule("allow-sessions", 100, OUTBOUND, ALLOW, ANY, ANY, VIRTUAL_NETWORK, SHELL_PORTS),
        SecurityRule("allow-azure", 110, OUTBOUND, ALLOW, "Tcp", ANY, "AzureCloud", ("443",)),
        _between_instances(120, OUTBOUND),
        SecurityRule("allow-certificate-checks", 130, OUTBOUND, ALLOW, ANY, ANY, INTERNET, ("80",)),
        _all("deny-the-rest", LAST_PRIORITY, OUTBOUND, DENY),
    )


def _between_instances(priority: int, direction: str) -> SecurityRule:
    name = "allow-instances"
    return SecurityRule(name, priority, direction, ALLOW, ANY, VIRTUAL_NETWORK, VIRTUAL_NETWORK, BASTION_PORTS)


def _all(name: str, priority: int, direction: str, access: str) -> SecurityRule:
    return SecurityRule(name, priority, direction, access, ANY, ANY, ANY, (ANY,))
