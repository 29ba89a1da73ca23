"""The network of the retention job, only with private endpoints: peered with nobody, its one way leads to the vault."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
from pulumi_azure_native import network, resources

from dr.compile.blueprint import VaultBlueprint, VaultNetworkBlueprint
from stacks.components.private_endpoint import private_endpoint
from stacks.options import kept


def vault_network(
    blueprint: VaultBlueprint,
    declared: VaultNetworkBlueprint,
    group: resources.ResourceGroup,
    *,
    after: Sequence[pulumi.Resource],
    ending: bool,
) -> tuple[pulumi.Output[str], list[pulumi.Resource]]:
    """Declare the network with its endpoint; return the id of the job's subnet, and what the job's way consists of."""
    net = network.VirtualNetwork(
        declared.name,
        virtual_network_name=declared.name,
        resource_group_name=group.name,
        location=blueprint.location,
        address_space=network.AddressSpaceArgs(address_prefixes=[declared.prefix]),
        tags=dict(blueprint.tags),
        opts=kept(ending=ending),
    )
    job = network.Subnet(
        f"{declared.name}-{declared.job_subnet}",
        subnet_name=declared.job_subnet,
        virtual_network_name=net.name,
        resource_group_name=group.name,
        address_prefix=declared.job_prefix,
        delegations=[network.DelegationArgs(name="job", service_name="Microsoft.App/environments")],
        opts=kept(ending=ending),
    )
    endpoints = network.Subnet(
        f"{declared.name}-{declared.endpoint_subnet}",
        subnet_name=declared.endpoint_subnet,
        virtual_network_name=net.name,
        resource_group_name=group.name,
        address_prefix=declared.endpoint_prefix,
        opts=kept(after=[job], ending=ending),  # Azure changes one subnet of a network at a time
    )
    ways = private_endpoint(
        declared.endpoint,
        group=group,
        location=blueprint.location,
        network_id=net.id,
        subnet_id=endpoints.id,
        tags=blueprint.tags,
        options=lambda: kept(after=after, ending=ending),
    )
    return job.id, ways
