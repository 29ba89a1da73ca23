"""When a server's disks are compared with its replica again, and what the last verification pass found.

Rules:
- Due by the policy's `verifyEvery`, counted from the end of the last pass by this server's clock; a server that is new
  here waits as long once. An operator may ask sooner.
- The agent is told the same request with every heartbeat until it says that this one has ended; a pass that a restart
  or a resync cut short begins again by that.
- Kept in a file: a restart forgets neither the schedule nor a drift.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dr.durable import write_durably

COUNTERS = ("total_bytes", "compared_bytes", "drift_bytes")
NAMED_CHUNKS = 8


@dataclass(frozen=True, slots=True)
class Verified:
    """How the last pass of a server ended: bytes that were to be compared, were compared, and differed."""

    ended_at: datetime
    total_bytes: int
    compared_bytes: int
    drift_bytes: int
    drift: tuple[tuple[str, int], ...]  # disk and offset of the first chunks that differed
    unreadable: str | None


class VerificationDesk:
    """The passes of one site's servers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._since, self._last = _load(path)
        self._open: dict[str, str] = {}
        self.unsaved = ""  # why the file could not be written, empty while it can

    def request(self, server: str) -> str:
        """Ask for a pass now; return the request's id, of the open one if there is one."""
        return self._open.setdefault(server, secrets.token_hex(8))

    def pending(self, server: str, every_seconds: int, now: datetime) -> str | None:
        """Return the request that the agent is to be told; `every_seconds` 0: only when an operator asked."""
        if server not in self._since:
            self._since[server] = now
            self._save()
        elif self.unsaved:
            self._save()  # there may be room again
        last = self._last.get(server)
        before = self._since[server] if last is None else last.ended_at
        # abs: after a clock that was set back, a pass is due rather than never
        if every_seconds and abs((now - before).total_seconds()) >= every_seconds:
            self.request(server)
        return self._open.get(server)

    def heard(self, server: str, told: object, now: datetime) -> None:
        """Take in what the agent says about its pass."""
        if not isinstance(told, Mapping) or told.get("state") != "ended":
            return
        if self._open.get(server) is None or told.get("request") != self._open[server]:
            return
        counted = [told.get(name) for name in COUNTERS]
        if not all(isinstance(value, int) and value >= 0 for value in counted):
            return
        total, compared, drift = (int(value) for value in counted if isinstance(value, int))
        unreadable = told.get("unreadable")
        self._last[server] = Verified(
            now, total, compared, drift, _places(told.get("drift")), str(unreadable)[:400] if unreadable else None
        )
        del self._open[server]
        self._save()

    def last(self, server: str) -> Verified | None:
        """Return how the last pass ended, None before the first."""
        return self._last.get(server)

    def _save(self) -> None:
        document = {
            "version": 1,
            "since": {name: at.isoformat() for name, at in self._since.items()},
            "last": {name: as_dict(verified) for name, verified in self._last.items()},
        }
        try:
            write_durably(self._path, json.dumps(document).encode(), mode=0o600)
            self.unsaved = ""
        except OSError as error:
            self.unsaved = f"{self._path} cannot be written: {error.strerror}"


def as_dict(verified: Verified) -> dict[str, Any]:
    """Return a pass's end as JSON shows it."""
    return {
        "ended_at": verified.ended_at.isoformat(timespec="seconds"),
        "total_bytes": verified.total_bytes,
        "compared_bytes": verified.compared_bytes,
        "drift_bytes": verified.drift_bytes,
        "drift": [{"disk": disk, "offset": offset} for disk, offset in verified.drift],
        "unreadable": verified.unreadable,
    }


def _places(value: object) -> tuple[tuple[str, int], ...]:
    if not isinstance(value, Iterable):
        return ()
    found = (each for each in value if isinstance(each, Mapping) and isinstance(each.get("offset"), int))
    return tuple((str(each.get("disk"))[:64], int(each["offset"])) for each in found)[:NAMED_CHUNKS]


def _load(path: Path) -> tuple[dict[str, datetime], dict[str, Verified]]:
    try:
        document = json.loads(path.read_bytes())
        since = {name: datetime.fromisoformat(at).astimezone(UTC) for name, at in document["since"].items()}
        return since, {name: _verified(last) for name, last in document["last"].items()}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}, {}  # then every server waits for its time once more


def _verified(last: Mapping[str, Any]) -> Verified:
    return Verified(
        datetime.fromisoformat(last["ended_at"]).astimezone(UTC),
        int(last["total_bytes"]),
        int(last["compared_bytes"]),
        int(last["drift_bytes"]),
        _places(last["drift"]),
        last["unreadable"],
    )
