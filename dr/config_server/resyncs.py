"""Requested resyncs: asked for by an operator, told to the agent with each heartbeat until it says that it began.

In memory only: after a restart of the configuration server whoever still wants a resync asks again.
"""

from __future__ import annotations

import secrets


class ResyncDesk:
    """At most one open request for each server."""

    def __init__(self) -> None:
        self._open: dict[str, str] = {}

    def request(self, server: str) -> str:
        """Ask for a resync of `server`; return the request's id, of the open one if there is one."""
        return self._open.setdefault(server, secrets.token_hex(8))

    def pending(self, server: str) -> str | None:
        """Return the open request of `server`."""
        return self._open.get(server)

    def heard(self, server: str, identity: object) -> None:
        """Close the request that the agent says it has taken up."""
        if server in self._open and self._open[server] == identity:
            del self._open[server]
