"""A virtual network with its subnets and one security group for each."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
from pulumi_azure_native import network

from dr.compile.security import SecurityRule
from dr.compile.zone_blueprint import NetworkBlueprint, SubnetBlueprint
from stacks.components.setting import Setting
from stacks.options import named


class VirtualNetwork(pulumi.ComponentResource):
    """A network; other components add their own subnet to it by `add`.

    Azure changes one subnet of a network at a time and refuses a second one meanwhile, so each subnet waits for the
    one before it, on the way down too.
    """

    def __init__(self, name: str, *, blueprint: NetworkBlueprint, setting: Setting, nat: pulumi.Input[str] | None):
        super().__init__("lifeboat:site:VirtualNetwork", name)
        self._setting = setting
        self._nat = nat
        self._before: list[pulumi.Resource] = []
        self.security_groups: dict[str, network.NetworkSecurityGroup] = {}
        self.network = network.VirtualNetwork(
            blueprint.name,
            virtual_network_name=blueprint.name,
            resource_group_name=setting.group.name,
            location=setting.location,
            address_space=network.AddressSpaceArgs(address_prefixes=[blueprint.address_space]),
            tags=dict(setting.tags),
            opts=named(parent=self),
        )
        self._name = blueprint.name
        for subnet in blueprint.subnets:
            self.add(subnet, parent=self)
        self.register_outputs({})

    def add(
        self, subnet: SubnetBlueprint, *, parent: pulumi.Resource, replaced_by: Sequence[str] = ()
    ) -> network.Subnet:
        """Declare a subnet, after all that were added before."""
        group = None
        if subnet.security_group is not None:
            group = self._security_group(subnet.security_group, subnet.rules, parent)
        made = network.Subnet(
            f"{self._name}-{subnet.name}",
            subnet_name=subnet.name,
            virtual_network_name=self.network.name,
            resource_group_name=self._setting.group.name,
            address_prefix=subnet.prefix,
            network_security_group=None if group is None else network.NetworkSecurityGroupArgs(id=group.id),
            nat_gateway=network.SubResourceArgs(id=self._nat) if subnet.nat_gateway and self._nat else None,
            default_outbound_access=subnet.default_outbound_access,
            opts=named(parent=parent, after=self._before, replaced_by=replaced_by),
        )
        self._before = [made]
        return made

    def _security_group(
        self, name: str, rules: Sequence[SecurityRule], parent: pulumi.Resource
    ) -> network.NetworkSecurityGroup:
        self.security_groups[name] = network.NetworkSecurityGroup(
            name,
            network_security_group_name=name,
            resource_group_name=self._setting.group.name,
            location=self._setting.location,
            security_rules=[_rule(rule) for rule in rules],
            tags=dict(self._setting.tags),
            opts=named(parent=parent),
        )
        return self.security_groups[name]


def _rule(rule: SecurityRule) -> network.SecurityRuleArgs:
    single = len(rule.ports) == 1
    return network.SecurityRuleArgs(
        name=f"{rule.name}-{rule.direction.lower()}",
        priority=rule.priority,
        direction=rule.direction,
        access=rule.access,
        protocol=rule.protocol,
        source_address_prefix=rule.source,
        source_port_range="*",
        destination_address_prefix=rule.destination,
        destination_port_range=rule.ports[0] if single else None,
        destination_port_ranges=None if single else list(rule.ports),
    )
