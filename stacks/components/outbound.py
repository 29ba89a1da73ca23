"""The way out for recovered servers: Azure gives a network none by itself any more."""

from __future__ import annotations

import pulumi
from pulumi_azure_native import network

from dr.compile.zone_blueprint import NatBlueprint
from stacks.components.setting import Setting, public_address
from stacks.options import named


class Outbound(pulumi.ComponentResource):
    """A NAT gateway with its public address."""

    def __init__(self, name: str, *, blueprint: NatBlueprint, setting: Setting):
        super().__init__("lifeboat:site:Outbound", name)
        self.address = public_address(setting, blueprint.public_address, opts=named(parent=self))
        self.gateway = network.NatGateway(
            blueprint.gateway,
            nat_gateway_name=blueprint.gateway,
            resource_group_name=setting.group.name,
            location=setting.location,
            sku=network.NatGatewaySkuArgs(name="Standard"),
            idle_timeout_in_minutes=4,
            public_ip_addresses=[network.SubResourceArgs(id=self.address.id)],
            tags=dict(setting.tags),
            opts=named(parent=self),
        )
        self.register_outputs({})
