"""The last heartbeat of every server: in memory, and in one small file so that a restart forgets nothing.

A server without a heartbeat since the restart is shown with the old one and its age, never as if it had none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dr.durable import write_durably
from dr.https import RequestInvalid, number

MODES = frozenset({"initial-replication", "resync", "delta", "copy", "fenced", "stopped"})
COUNTERS = (
    "pending_bytes",
    "initial_bytes_total",
    "initial_bytes_done",
    "sent_bytes",
    "sequence",
    "stored_sequence",
)
MAX_STATUS_BYTES = 64 << 10
SAVE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What an agent said about itself, and when we heard it (our clock)."""

    received_at: datetime
    status: Mapping[str, Any] = field(hash=False)


def check_status(server: str, status: Mapping[str, Any]) -> None:
    """Raise `RequestInvalid` unless `status` is an `AgentStatus` of `server`."""
    if status.get("server") != server:
        raise RequestInvalid('the status is of another "server"')
    if status.get("mode") not in MODES:
        raise RequestInvalid(f'"mode" is not one of {", ".join(sorted(MODES))}')
    for counter in COUNTERS:
        value = status.get(counter)
        number(None if isinstance(value, str) else value, counter)  # digits are for addresses, not for a document
    for part in ("reason", "last_cut", "tracker"):
        if not isinstance(status.get(part), dict | None):
            raise RequestInvalid(f'"{part}" is not an object')
    if len(json.dumps(status)) > MAX_STATUS_BYTES:
        raise RequestInvalid(f"the status has more than {MAX_STATUS_BYTES} bytes", code="too-large")


class Heartbeats:
    """The newest heartbeat of each server."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._latest: dict[str, Heartbeat] = _load(path)
        self._saved_at: datetime | None = None
        self.unsaved = ""  # why the file could not be written, empty while it can

    def note(self, server: str, status: Mapping[str, Any], now: datetime) -> None:
        """Remember a heartbeat; kept on disk every `SAVE_SECONDS` and when the mode changes."""
        before = self._latest.get(server)
        self._latest[server] = Heartbeat(now, dict(status))
        # abs: after a clock that was set back, the next one is due as well
        due = self._saved_at is None or abs((now - self._saved_at).total_seconds()) >= SAVE_SECONDS
        if due or before is None or before.status.get("mode") != status.get("mode"):
            self.save()
            self._saved_at = now

    def latest(self, server: str) -> Heartbeat | None:
        """Return the newest heartbeat of `server`."""
        return self._latest.get(server)

    def save(self) -> None:
        """Keep what is known durably; a folder that takes no more is in `unsaved`, and nobody is turned away for it."""
        document = {
            "version": 1,
            "servers": {
                name: {"received_at": beat.received_at.isoformat(), "status": beat.status}
                for name, beat in self._latest.items()
            },
        }
        try:
            write_durably(self._path, json.dumps(document).encode(), mode=0o600)
            self.unsaved = ""
        except OSError as error:
            self.unsaved = f"{self._path} cannot be written: {error.strerror}"


def _load(path: Path) -> dict[str, Heartbeat]:
    try:
        servers = json.loads(path.read_bytes())["servers"]
        return {
            name: Heartbeat(datetime.fromisoformat(beat["received_at"]).astimezone(UTC), dict(beat["status"]))
            for name, beat in servers.items()
        }
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return {}  # a display's memory: agents fill it again within seconds
