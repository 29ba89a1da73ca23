"""The subnets that Azure keeps for its own services, known by their names: what it refuses about them. Pure.

Sources: Azure's documentation, "Configure NSG rules for Azure Bastion" and "About VPN Gateway settings". The latter
warns of a security group or NAT gateway on GatewaySubnet, which may stop the gateway; here both are refused, so that
nobody finds out during a failback.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any

from dr.local.standin.kinds import azure_error

Rule = Mapping[str, Any]
BASTION, GATEWAY = "AzureBastionSubnet", "GatewaySubnet"
SMALLEST = {BASTION: 26, GATEWAY: 29}  # the longest prefix that Azure takes
# (direction, source, destination, ports) that a security group on AzureBastionSubnet has to allow.
_BASTION_NEEDS = (
    ("Inbound", "Internet", "*", {"443"}),
    ("Inbound", "GatewayManager", "*", {"443"}),
    ("Inbound", "AzureLoadBalancer", "*", {"443"}),
    ("Inbound", "VirtualNetwork", "VirtualNetwork", {"5701", "8080"}),
    ("Outbound", "*", "VirtualNetwork", {"22", "3389"}),
    ("Outbound", "*", "AzureCloud", {"443"}),
    ("Outbound", "VirtualNetwork", "VirtualNetwork", {"5701", "8080"}),
    ("Outbound", "*", "Internet", {"80"}),
)


def refuse_subnet(name: str, prefix: ipaddress.IPv4Network, rules: Sequence[Rule] | None, *, nat_gateway: bool) -> None:
    """Raise what Azure says of such a subnet; `rules` are its security group's, None without one."""
    if prefix.prefixlen > SMALLEST.get(name, 29):
        raise azure_error("SubnetSizeInvalid", f"{prefix} is too small for {name}: /{SMALLEST.get(name, 29)} or larger")
    if name == GATEWAY and rules is not None:
        raise azure_error("NotSupported", f"a network security group on {name} is not supported")
    if name == GATEWAY and nat_gateway:
        raise azure_error("NotSupported", f"a NAT gateway on {name} is not supported")
    if name == BASTION and rules is not None:
        refuse_bastion_rules(rules)


def refuse_bastion_rules(rules: Sequence[Rule]) -> None:
    """Raise when a security group of AzureBastionSubnet does not allow what Bastion needs."""
    for direction, source, destination, ports in _BASTION_NEEDS:
        if not any(_allows(rule, direction, source, destination, ports) for rule in rules):
            raise azure_error(
                "NetworkSecurityGroupNotCompliantForAzureBastionSubnet",
                f"the network security group does not have necessary rules for {BASTION}: {direction} from {source} "
                f"to {destination}, ports {', '.join(sorted(ports))}",
            )


def _allows(rule: Rule, direction: str, source: str, destination: str, ports: set[str]) -> bool:
    named = {rule.get("destinationPortRange"), *(rule.get("destinationPortRanges") or [])}
    return (
        (rule.get("direction"), rule.get("access")) == (direction, "Allow")
        and rule.get("sourceAddressPrefix") in {source, "*"}
        and rule.get("destinationAddressPrefix") in {destination, "*"}
        and (ports <= named or "*" in named)
    )
