"""What the agent remembers: for this boot in `/run/lifeboat`, beyond it in `/var/cache/lifeboat`.

Rules kept here:
- `Positions` is a mapped file of counters: each is one aligned 8-byte store, so a kill leaves the old or the new value.
  `stored_sequence` is written *before* marks are forgotten, so that a store that went back is always noticed.
- `session.json` (this boot) is written last when tracking begins. No session, or one of another boot: a resync.
- `/var/cache` is on a protected disk: it is written at changes of mode and at the end, never while frozen.
"""

from __future__ import annotations

import json
import mmap
import os
from dataclasses import asdict, dataclass
from typing import Any, Dict, Optional

FIELDS = (
    "next_sequence",
    "stored_sequence",
    "writer_epoch",
    "went_back_epoch",
    "sent_bytes",
    "initial_bytes_total",
    "overruns",
    "events",
)
SESSION = "session.json"
LASTING = "agent-state.json"


class Positions:
    """Counters in a mapped file of the run folder, as attributes by the names of `FIELDS`."""

    def __init__(self, path: str) -> None:
        size = len(FIELDS) * 8
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(descriptor).st_size != size:
                os.ftruncate(descriptor, size)
                os.posix_fallocate(descriptor, 0, size)
            # Not `struct`: it clears the bytes before it stores them, and a kill between the two would leave 0.
            self._values = memoryview(mmap.mmap(descriptor, size)).cast("Q")
        finally:
            os.close(descriptor)

    def get(self, name: str) -> int:
        """Return the counter `name`."""
        return self._values[FIELDS.index(name)]

    def set(self, name: str, value: int) -> None:
        """Store the counter `name`."""
        self._values[FIELDS.index(name)] = value

    def add(self, name: str, value: int) -> None:
        """Add to the counter `name`; one thread only."""
        self.set(name, self.get(name) + value)


@dataclass(frozen=True)
class Session:
    """What this boot's tracking is: `resync_pending` says that the maps must be made UNREAD before anything else."""

    boot_id: str
    protection_epoch: int
    mode: str
    reason: Optional[Dict[str, str]]
    fresh_replica: bool
    started: bool
    resync_pending: bool
    disks: Optional[Dict[str, int]] = None  # name to bytes; None: kept by an older agent


@dataclass(frozen=True)
class Lasting:
    """What outlives a boot."""

    boot_id: str
    sent_bytes: int
    overruns: int
    events: int


def load_session(folder: str) -> Optional[Session]:
    """Return the session of `folder`, None when there is none that can be read."""
    document = load_json(os.path.join(folder, SESSION))
    session: Optional[Session] = _made(Session, document)
    return session


def save_session(folder: str, session: Session) -> None:
    """Keep the session (on a tmpfs: rename is enough)."""
    _save(os.path.join(folder, SESSION), asdict(session), durable=False)


def load_lasting(folder: str) -> Optional[Lasting]:
    """Return what outlived the last boot, None when the agent is new here."""
    lasting: Optional[Lasting] = _made(Lasting, load_json(os.path.join(folder, LASTING)))
    return lasting


def save_lasting(folder: str, lasting: Lasting) -> None:
    """Keep `lasting` durably."""
    _save(os.path.join(folder, LASTING), asdict(lasting), durable=True)


def save_json(path: str, document: Dict[str, Any]) -> None:
    """Replace a JSON file on a tmpfs in one step."""
    _save(path, document, durable=False)


def save_durably(path: str, document: Dict[str, Any]) -> None:
    """Replace a JSON file in one step, whatever happens to the power."""
    _save(path, document, durable=True)


def _made(kind: Any, document: Optional[Dict[str, Any]]) -> Any:
    try:
        return kind(**document) if document is not None else None
    except TypeError:
        return None


def load_json(path: str) -> Optional[Dict[str, Any]]:
    """Return the JSON object in a file, None when there is none that can be read."""
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except (OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None


def _save(path: str, document: Dict[str, Any], *, durable: bool) -> None:
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(document, file)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    os.replace(temporary, path)
    if durable:
        descriptor = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
