"""`dr:index:RecoveryPoint`: a selector, resolved once for a run and kept with it.

`preview` shows the candidate and touches nothing. `read` tells what was kept and never says "gone": if it did, a
refresh after the retention of a point would select another one and rebuild running servers from it.
"""

from __future__ import annotations

from dr.compile.blueprint import ReplicationGroup
from dr.failover.selection import Selection, candidate, forget, kept, select
from dr.failover.sharing import Share
from dr.plugin.values import has_unknown
from dr.provider.resource import Properties, ResourceType, Session
from dr.provider.world import World
from dr.vault.manifest import format_time


class RecoveryPoint(ResourceType):
    name = "RecoveryPoint"
    required = ("subscription", "account", "server", "plan", "run", "selector")
    optional = ("replicationGroup",)  # {"name", "members"}
    in_place = frozenset({"replicationGroup"})  # what was chosen stays, whoever joins the group later

    def __init__(self, world: World) -> None:
        self._world = world

    def preview(self, inputs: Properties) -> Properties:
        if has_unknown(inputs):
            return inputs
        store = self._world.open_store(inputs["subscription"], inputs["account"])
        before = kept(store, inputs["plan"], inputs["run"], inputs["server"])
        if before is None or before.selector != inputs["selector"]:
            group = _group(inputs)
            share = Share(inputs["plan"], inputs["run"], group) if group is not None else None
            before = candidate(store, inputs["server"], inputs["selector"], self._world.now(), share)
        return {**inputs, **_outputs(before)}

    def create(self, inputs: Properties, session: Session) -> tuple[str, Properties]:
        store = self._world.open_store(inputs["subscription"], inputs["account"])
        selection = select(
            store,
            inputs["plan"],
            inputs["run"],
            inputs["server"],
            inputs["selector"],
            self._world.now(),
            _group(inputs),
        )
        for broken in selection.passed_over:
            session.warn(f"a manifest of {inputs['server']} could not be read and was passed over: {broken}")
        session.progress(f"{inputs['selector']} is {selection.point}, cut at {format_time(selection.cut_time)}")
        return selection.point, {**inputs, **_outputs(selection)}

    def update(self, resource_id: str, state: Properties, inputs: Properties, session: Session) -> Properties:
        kept = {name: value for name, value in state.items() if name not in self.in_place}
        return {**kept, **inputs}

    def delete(self, resource_id: str, state: Properties, session: Session) -> None:
        store = self._world.open_store(state["subscription"], state["account"])
        forget(store, state["plan"], state["run"], state["server"], state["selector"], _group(state))


def _group(inputs: Properties) -> ReplicationGroup | None:
    given = inputs.get("replicationGroup")
    return ReplicationGroup(given["name"], tuple(given["members"])) if given else None


def _outputs(selection: Selection) -> Properties:
    return {
        "pointId": selection.point,
        "cutTime": format_time(selection.cut_time),
        "firmware": selection.firmware,
        # A candidate has none yet, and a run that is begun anew has another one: its actions are its own.
        **({} if selection.selected_time is None else {"selectedTime": format_time(selection.selected_time)}),
        "disks": [
            {
                "name": disk.name,
                "sizeBytes": disk.size_bytes,
                "blob": disk.blob,
                "snapshot": disk.snapshot,
                "merkleRoot": disk.merkle_root,
            }
            for disk in selection.disks
        ],
    }
