"""Looks at a server again and again, as the commands do that wait for its agent."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dr.errors import NotFound

if TYPE_CHECKING:
    from dr.config_server.client import SiteClient

LOOK_SECONDS = 1.0
Server = dict[str, Any]


def looks(client: SiteClient, server: str, seconds: float = math.inf) -> Iterator[Server]:
    """Yield what the status says of `server`, with an `agent` in any case, once a second until `seconds` are over.

    `NotFound` when there is no such server.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        shown: Server | None = client.status()["servers"].get(server)
        if shown is None:
            raise NotFound(f'no server "{server}" is protected by this site', remedy="see `dr status`")
        yield {**shown, "agent": shown["agent"] or {}}
        time.sleep(LOOK_SECONDS)
