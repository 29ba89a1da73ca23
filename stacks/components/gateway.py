"""The way home: failback data leaves the production network through it."""

from __future__ import annotations

import pulumi
from pulumi_azure_native import network

from dr.compile.zone_blueprint import GatewayBlueprint
from dr.model import GatewayKind
from stacks.components.networks import VirtualNetwork
from stacks.components.setting import Setting, public_address
from stacks.options import named


class Gateway(pulumi.ComponentResource):
    """A VPN or ExpressRoute gateway in GatewaySubnet, and the connection to the site.

    `secret` is the connection's shared key (vpn) or the circuit's authorization (expressRoute).
    """

    def __init__(
        self,
        name: str,
        *,
        blueprint: GatewayBlueprint,
        setting: Setting,
        production: VirtualNetwork,
        secret: pulumi.Output[str] | None,
    ):
        super().__init__("lifeboat:site:Gateway", name)
        subnet = production.add(blueprint.subnet, parent=self)
        self.address = public_address(setting, blueprint.public_address, zones=blueprint.zones, opts=named(parent=self))
        vpn = blueprint.kind is GatewayKind.VPN
        self.gateway = network.VirtualNetworkGateway(
            blueprint.gateway,
            virtual_network_gateway_name=blueprint.gateway,
            resource_group_name=setting.group.name,
            location=setting.location,
            gateway_type="Vpn" if vpn else "ExpressRoute",
            vpn_type="RouteBased" if vpn else None,
            sku=network.VirtualNetworkGatewaySkuArgs(name=blueprint.sku, tier=blueprint.sku),
            active_active=False if vpn else None,
            enable_bgp=False if vpn else None,
            ip_configurations=[
                network.VirtualNetworkGatewayIPConfigurationArgs(
                    name="primary",
                    private_ip_allocation_method="Dynamic",
                    subnet=network.SubResourceArgs(id=subnet.id),
                    public_ip_address=network.SubResourceArgs(id=self.address.id),
                )
            ],
            tags=dict(setting.tags),
            opts=named(parent=self, replaced_by=["gatewayType"], replaced_with=[subnet, self.address]),
        )
        peer = self._peer(blueprint, setting) if vpn else None
        network.VirtualNetworkGatewayConnection(
            blueprint.connection,
            virtual_network_gateway_connection_name=blueprint.connection,
            resource_group_name=setting.group.name,
            location=setting.location,
            connection_type="IPsec" if vpn else "ExpressRoute",
            connection_protocol="IKEv2" if vpn else None,
            virtual_network_gateway1=network.VirtualNetworkGatewayArgs(id=self.gateway.id),
            local_network_gateway2=None if peer is None else network.LocalNetworkGatewayArgs(id=peer.id),
            peer=None if vpn else network.SubResourceArgs(id=blueprint.circuit),
            enable_bgp=False if vpn else None,
            shared_key=secret if vpn else None,
            authorization_key=None if vpn else secret,
            tags=dict(setting.tags),
            opts=named(parent=self, replaced_with=[self.gateway]),
        )
        self.register_outputs({})

    def _peer(self, blueprint: GatewayBlueprint, setting: Setting) -> network.LocalNetworkGateway:
        assert blueprint.peer is not None, "a VPN gateway has a peer"
        return network.LocalNetworkGateway(
            blueprint.peer,
            local_network_gateway_name=blueprint.peer,
            resource_group_name=setting.group.name,
            location=setting.location,
            gateway_ip_address=blueprint.peer_address,
            local_network_address_space=network.AddressSpaceArgs(address_prefixes=list(blueprint.site_prefixes)),
            tags=dict(setting.tags),
            opts=named(parent=self),
        )
