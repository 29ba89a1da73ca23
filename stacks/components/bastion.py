"""A way to a recovered server's console for people, with no public address on the server."""

from __future__ import annotations

import pulumi
from pulumi_azure_native import network

from dr.compile.zone_blueprint import BastionBlueprint
from stacks.components.networks import VirtualNetwork
from stacks.components.setting import Setting, public_address
from stacks.options import named


class Bastion(pulumi.ComponentResource):
    """Azure Bastion in a subnet of its own."""

    def __init__(self, name: str, *, blueprint: BastionBlueprint, setting: Setting, production: VirtualNetwork):
        super().__init__("lifeboat:site:Bastion", name)
        # A subnet that holds a host keeps its addresses: another prefix is another subnet and another host.
        subnet = production.add(blueprint.subnet, parent=self, replaced_by=["addressPrefix"])
        self.address = public_address(setting, blueprint.public_address, opts=named(parent=self))
        self.host = network.BastionHost(
            blueprint.host,
            bastion_host_name=blueprint.host,
            resource_group_name=setting.group.name,
            location=setting.location,
            # Standard: `az network bastion ssh` from a laptop, which Basic has not.
            sku=network.SkuArgs(name="Standard"),
            enable_tunneling=True,
            scale_units=2,
            ip_configurations=[
                network.BastionHostIPConfigurationArgs(
                    name="primary",
                    private_ip_allocation_method="Dynamic",
                    subnet=network.SubResourceArgs(id=subnet.id),
                    public_ip_address=network.SubResourceArgs(id=self.address.id),
                )
            ],
            tags=dict(setting.tags),
            opts=named(parent=self, replaced_with=[subnet, self.address]),
        )
        self.register_outputs({})
