"""The stack `site-TARGET`: the landing network, what the site's servers need, and the protection of each server."""

from __future__ import annotations

import pulumi
from pulumi_azure_native import network, resources

from dr.compile.blueprint import SiteBlueprint, SubnetBlueprint
from stacks.options import named
from stacks.resources import Protection, SiteServers

FIRST_RULE_PRIORITY = 100
LAST_RULE_PRIORITY = 4096  # the highest a rule may have; Azure's own, which let the network in, come after it


def program(blueprint: SiteBlueprint, subscription: str) -> None:
    """Declare the production network, `dr serve`'s configuration and one protection for each server."""
    group = resources.ResourceGroup(
        blueprint.resource_group,
        resource_group_name=blueprint.resource_group,
        location=blueprint.location,
        tags=dict(blueprint.tags),
        opts=named(),
    )
    _network(blueprint, group)
    servers = SiteServers(blueprint.site, blueprint=blueprint, subscription=subscription, opts=named())
    for protection in blueprint.protections:
        Protection(
            protection.server,
            blueprint=blueprint,
            protection=protection,
            subscription=subscription,
            opts=named(after=[servers]),
        )
    pulumi.export("resourceGroup", group.name)
    pulumi.export("servers", [protection.server for protection in blueprint.protections])


def _network(blueprint: SiteBlueprint, group: resources.ResourceGroup) -> None:
    net = network.VirtualNetwork(
        blueprint.virtual_network,
        virtual_network_name=blueprint.virtual_network,
        resource_group_name=group.name,
        location=blueprint.location,
        address_space=network.AddressSpaceArgs(address_prefixes=[blueprint.address_space]),
        tags=dict(blueprint.tags),
        opts=named(),
    )
    before: list[pulumi.Resource] = []
    for subnet in blueprint.subnets:
        security = network.NetworkSecurityGroup(
            subnet.security_group,
            network_security_group_name=subnet.security_group,
            resource_group_name=group.name,
            location=blueprint.location,
            security_rules=_rules(subnet),
            tags=dict(blueprint.tags),
            opts=named(),
        )
        made = network.Subnet(
            f"{blueprint.virtual_network}-{subnet.name}",
            subnet_name=subnet.name,
            virtual_network_name=net.name,
            resource_group_name=group.name,
            address_prefix=subnet.prefix,
            network_security_group=network.NetworkSecurityGroupArgs(id=security.id),
            opts=named(after=before),
        )
        before = [made]  # Azure changes one subnet of a network at a time and refuses a second


def _rules(subnet: SubnetBlueprint) -> list[network.SecurityRuleArgs]:
    allowed = [
        network.SecurityRuleArgs(
            name=f"allow-tcp-{port}",
            priority=FIRST_RULE_PRIORITY + index,
            direction="Inbound",
            access="Allow",
            protocol="Tcp",
            source_address_prefix="*",
            source_port_range="*",
            destination_address_prefix="*",
            destination_port_range=str(port),
        )
        for index, port in enumerate(subnet.inbound_ports)
    ]
    denied = network.SecurityRuleArgs(
        name="deny-the-rest",
        priority=LAST_RULE_PRIORITY,
        direction="Inbound",
        access="Deny",
        protocol="*",
        source_address_prefix="*",
        source_port_range="*",
        destination_address_prefix="*",
        destination_port_range="*",
    )
    return [*allowed, denied]
