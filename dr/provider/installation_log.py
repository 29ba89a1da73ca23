"""What was done to a server, when and from where: the output `log` of its protection, newest entry last.

    {"at": "2026-05-04T11:30:00+00:00", "from": "anna@laptop", "agent": SHA-256, "steps": […], "outcome": "done"}

`outcome` is "done" or the code of the error; of the steps before an error the last may not have been done. The server's
own journal has the same steps (`journalctl -t lifeboat-install`), and keeps those of the removal too.
"""

from __future__ import annotations

import getpass
import socket
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

KEPT_ENTRIES = 20
DONE = "done"


def extended(
    log: Sequence[Mapping[str, Any]], now: datetime, *, agent: str, steps: Sequence[str], outcome: str = DONE
) -> list[Mapping[str, Any]]:
    """Return the log with one more entry, unless nothing was done and nothing failed."""
    if not steps and outcome == DONE:
        return list(log)
    entry = {
        "at": now.isoformat(timespec="seconds"),
        "from": _whence(),
        "agent": agent,
        "steps": list(steps),
        "outcome": outcome,
    }
    return [*log, entry][-KEPT_ENTRIES:]


def _whence() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"  # a container's user without a name
    return f"{user}@{socket.gethostname()}"
