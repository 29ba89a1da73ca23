"""`dr:index:Retention`: what the vault is told about the declaration: which servers, and how long their points live.

Rules:
- A server that left the declaration stays in the vault's list with the time when it left; its points are kept for
  retention plus grace. It has not left when it comes back.
- A shorter retention does not hold at once (`dr.retention.record`), and `up` says so.
- `delete` changes nothing: a site that was destroyed leaves its vault untouched, and nothing ages without new points.
"""

from __future__ import annotations

from contextlib import closing

from dr.provider.resource import Properties, ResourceType, Session
from dr.provider.world import World
from dr.vault import declared
from dr.vault.declared import GRACE
from dr.vault.manifest import format_time


class Retention(ResourceType):
    name = "Retention"
    required = ("site", "subscription", "storageAccount", "servers")  # servers: {NAME: retention in seconds}
    in_place = frozenset({"servers"})

    def __init__(self, world: World) -> None:
        self._world = world

    def create(self, inputs: Properties, session: Session) -> tuple[str, Properties]:
        servers = {name: int(seconds) for name, seconds in inputs["servers"].items()}
        with closing(self._world.open_store(inputs["subscription"], inputs["storageAccount"])) as store:
            before = declared.read(store)
            after = declared.tell(store, inputs["site"], servers)
        for name, kept in after.items():
            if kept.left is None and name in before and kept.retention < before[name].retention:
                session.warn(
                    f"{name}: a shorter retention holds after the old one plus {GRACE.days} days, counted from when "
                    "retention sees it; until then the points are kept as before"
                )
            if kept.until is not None and (name not in before or before[name].left is None):
                session.warn(
                    f"{name} left the declaration: its recovery points are kept until {format_time(kept.until)}. "
                    f"`dr points {name}` lists them, `dr purge {name}` removes them at once"
                )
        return inputs["site"], inputs

    def read(self, resource_id: str, state: Properties, session: Session) -> Properties | None:
        with closing(self._world.open_store(state["subscription"], state["storageAccount"])) as store:
            kept = declared.read(store)
        there = {name: int(each.retention.total_seconds()) for name, each in kept.items() if each.left is None}
        return {**state, "servers": there}

    def update(self, resource_id: str, state: Properties, inputs: Properties, session: Session) -> Properties:
        return self.create(inputs, session)[1]

    def delete(self, resource_id: str, state: Properties, session: Session) -> None:
        session.warn("the recovery points stay in the vault, and none ages while no new one arrives")
