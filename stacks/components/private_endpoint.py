"""A private way to the vault's blobs or keys inside one network, and the names that lead there.

Vault and site have one each, in their own networks: neither stack needs the other's state, and destroying the site
leaves the vault untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pulumi
from pulumi_azure_native import network, privatedns, resources

from dr.compile.blueprint import PrivateEndpointBlueprint

Options = Callable[[], pulumi.ResourceOptions]


def private_endpoint(
    endpoint: PrivateEndpointBlueprint,
    *,
    group: resources.ResourceGroup,
    location: str,
    network_id: pulumi.Input[str],
    subnet_id: pulumi.Input[str],
    tags: Mapping[str, str],
    options: Options,
) -> list[pulumi.Resource]:
    """Declare the endpoint, its DNS zone, and the zone's link to the network; return what comes last."""
    zone = privatedns.PrivateZone(
        f"{endpoint.name}-zone",
        private_zone_name=endpoint.zone,
        resource_group_name=group.name,
        location="global",
        tags=dict(tags),
        opts=options(),
    )
    link = privatedns.VirtualNetworkLink(
        f"{endpoint.name}-link",
        virtual_network_link_name=endpoint.name,
        private_zone_name=zone.name,
        resource_group_name=group.name,
        location="global",
        registration_enabled=False,
        virtual_network=privatedns.SubResourceArgs(id=network_id),
        tags=dict(tags),
        opts=options(),
    )
    made = network.PrivateEndpoint(
        endpoint.name,
        private_endpoint_name=endpoint.name,
        resource_group_name=group.name,
        location=location,
        subnet=network.SubnetArgs(id=subnet_id),
        private_link_service_connections=[
            network.PrivateLinkServiceConnectionArgs(
                name=endpoint.name, private_link_service_id=endpoint.target_id, group_ids=[endpoint.part]
            )
        ],
        tags=dict(tags),
        opts=options(),
    )
    group_of_names = network.PrivateDnsZoneGroup(
        f"{endpoint.name}-names",
        private_dns_zone_group_name="default",
        private_endpoint_name=made.name,
        resource_group_name=group.name,
        private_dns_zone_configs=[network.PrivateDnsZoneConfigArgs(name=endpoint.part, private_dns_zone_id=zone.id)],
        opts=options(),
    )
    return [link, group_of_names]
