"""Private names for recovered servers."""

from __future__ import annotations

import pulumi
from pulumi_azure_native import privatedns

from dr.compile.zone_blueprint import PrivateZoneBlueprint
from stacks.components.networks import VirtualNetwork
from stacks.components.setting import Setting
from stacks.options import named

GLOBAL = "global"  # private zones and their links lie in no region


class PrivateZone(pulumi.ComponentResource):
    """A private DNS zone that the production network asks, and the drill's does not."""

    def __init__(self, name: str, *, blueprint: PrivateZoneBlueprint, setting: Setting, production: VirtualNetwork):
        super().__init__("lifeboat:site:PrivateZone", name)
        zone = privatedns.PrivateZone(
            blueprint.zone,
            private_zone_name=blueprint.zone,
            resource_group_name=setting.group.name,
            location=GLOBAL,
            tags=dict(setting.tags),
            opts=named(parent=self),
        )
        privatedns.VirtualNetworkLink(
            f"{blueprint.zone}-{blueprint.link}",
            virtual_network_link_name=blueprint.link,
            private_zone_name=zone.name,
            resource_group_name=setting.group.name,
            location=GLOBAL,
            virtual_network=privatedns.SubResourceArgs(id=production.network.id),
            # A failover enters its servers by name and takes them out again; Azure would enter every VM.
            registration_enabled=False,
            tags=dict(setting.tags),
            opts=named(parent=self),
        )
        self.register_outputs({})
