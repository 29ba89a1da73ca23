"""What all components of one stack share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
from pulumi_azure_native import network, resources


@dataclass(frozen=True, slots=True)
class Setting:
    """Where the parts are made, and the tags they carry."""

    subscription: str
    group: resources.ResourceGroup
    location: str
    tags: Mapping[str, str]

    def id(self, suffix: str) -> str:
        """Return the ARM id behind the subscription's."""
        return f"/subscriptions/{self.subscription}{suffix}"


def public_address(
    setting: Setting, name: str, *, opts: pulumi.ResourceOptions, zones: tuple[str, ...] = ()
) -> network.PublicIPAddress:
    """Declare a public address as NAT, Bastion and gateways ask for it: Standard, and static by that."""
    return network.PublicIPAddress(
        name,
        public_ip_address_name=name,
        resource_group_name=setting.group.name,
        location=setting.location,
        sku=network.PublicIPAddressSkuArgs(name="Standard", tier="Regional"),
        public_ip_address_version="IPv4",
        public_ip_allocation_method="Static",
        zones=list(zones) or None,
        tags=dict(setting.tags),
        opts=opts,
    )
