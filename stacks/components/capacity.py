"""Capacity kept free for recovered servers: in a disaster of a region everybody wants the same machines."""

from __future__ import annotations

from collections.abc import Sequence

import pulumi
from pulumi_azure_native import compute

from dr.compile.zone_blueprint import CapacityBlueprint
from stacks.components.setting import Setting
from stacks.options import named


class Capacity(pulumi.ComponentResource):
    """Reservations counted by size, in one group for each availability zone."""

    def __init__(self, name: str, *, blueprints: Sequence[CapacityBlueprint], setting: Setting):
        super().__init__("lifeboat:site:Capacity", name)
        for blueprint in blueprints:
            self._group(blueprint, setting)
        self.register_outputs({})

    def _group(self, blueprint: CapacityBlueprint, setting: Setting) -> None:
        zones = None if blueprint.zone is None else [blueprint.zone]
        group = compute.CapacityReservationGroup(
            blueprint.group,
            capacity_reservation_group_name=blueprint.group,
            resource_group_name=setting.group.name,
            location=setting.location,
            zones=zones,
            tags=dict(setting.tags),
            opts=named(parent=self),
        )
        for reservation in blueprint.reservations:
            compute.CapacityReservation(
                f"{blueprint.group}-{reservation.name}",
                capacity_reservation_name=reservation.name,
                capacity_reservation_group_name=group.name,
                resource_group_name=setting.group.name,
                location=setting.location,
                sku=compute.SkuArgs(name=reservation.size, capacity=reservation.count),
                zones=zones,
                tags=dict(setting.tags),
                opts=named(parent=self),
            )
