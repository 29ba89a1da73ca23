"""`dr:index:VaultAccess`: the login with which the site's servers reach the vault, and no other right than theirs.

Rules:
- The login is a file of the site, mode 0600 (`dr.target.access`); the state knows only when it ends.
- It is prolonged in place by any `up` once a month has gone by, and by the first `up --refresh` after
  the file was lost or a container was added that it does not open.
- `delete` revokes it at once, wherever a copy of it is.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from dr.provider.resource import Properties, ResourceType, Session
from dr.provider.world import World
from dr.target.access import SITE, SITE_FILE, SITE_RENEWED_BEFORE_DAYS, site_granted
from dr.target.folders import LOCAL_SUBSCRIPTION


class VaultAccess(ResourceType):
    name = "VaultAccess"
    required = ("site", "subscription", "storageAccount")
    unclear = frozenset({"until"})

    def __init__(self, world: World) -> None:
        self._world = world

    def due(self, state: Properties) -> str | None:
        if state["subscription"] != LOCAL_SUBSCRIPTION:
            return None
        until = state.get("until")
        soon = self._world.now() + timedelta(days=SITE_RENEWED_BEFORE_DAYS)
        return "until" if until is None or soon >= datetime.fromisoformat(until) else None

    def create(self, inputs: Properties, session: Session) -> tuple[str, Properties]:
        until = self._world.give_access(inputs["subscription"], inputs["storageAccount"])
        ends = {} if until is None else {"until": until.isoformat()}
        return inputs["site"], {**inputs, **ends}

    def read(self, resource_id: str, state: Properties, session: Session) -> Properties | None:
        if state["subscription"] != LOCAL_SUBSCRIPTION or self._whole():
            return state
        return {name: value for name, value in state.items() if name != "until"}

    def update(self, resource_id: str, state: Properties, inputs: Properties, session: Session) -> Properties:
        return self.create(inputs, session)[1]

    def delete(self, resource_id: str, state: Properties, session: Session) -> None:
        self._world.end_access(state["subscription"], state["storageAccount"])

    def _whole(self) -> bool:
        """Tell whether the login is there and opens every container that the site uses."""
        granted = site_granted(self._world.site)
        opens_all = granted is None or granted.containers.keys() == SITE.keys()
        return (self._world.site / SITE_FILE).is_file() and opens_all
