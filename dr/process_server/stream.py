"""What a process server durably remembers of one server's stream: `SPOOL/SERVER/stream.json`.

    {"version": 1, "writer_epoch": 7, "protection_epoch": 1, "disks": [{"name", "size_bytes"}], "facts": {...}}

It is written before a writer epoch is claimed and after, so that a process that was killed in between knows whether
the segments in its spool continue what the replica holds (see `writer`). It holds no data of the server's disks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dr.durable import write_durably
from dr.errors import Conflict, Corrupt, Refused
from dr.process_server.spool import Spooled, cannot_keep
from dr.vault.batch import DiskSpec

FILE = "stream.json"
MAX_JUMP = 1 << 32  # segments that were lost with a spool, or forgotten by a store; more than anybody sends in years


@dataclass(frozen=True, slots=True)
class Stream:
    """How a stream was opened, and the writer epoch that it was last known to have."""

    protection_epoch: int
    disks: tuple[DiskSpec, ...]
    facts: Mapping[str, Any] = field(hash=False)
    writer_epoch: int = 0

    @property
    def sizes(self) -> dict[str, int]:
        """Size in bytes of each disk."""
        return {disk.name: disk.size_bytes for disk in self.disks}

    def same_source(self, other: Stream) -> bool:
        """Tell whether both describe the same server in the same protection epoch."""
        return replace(self, writer_epoch=0) == replace(other, writer_epoch=0)

    def with_writer_epoch(self, writer_epoch: int) -> Stream:
        """Return the same stream under another writer epoch."""
        return replace(self, writer_epoch=writer_epoch)


def save(folder: Path, stream: Stream) -> None:
    """Keep `stream` durably in a server's spool folder. `SpoolFull` when it cannot be kept."""
    document = {
        "version": 1,
        "writer_epoch": stream.writer_epoch,
        "protection_epoch": stream.protection_epoch,
        "disks": [{"name": disk.name, "size_bytes": disk.size_bytes} for disk in stream.disks],
        "facts": stream.facts,
    }
    try:
        write_durably(folder / FILE, json.dumps(document, indent=1).encode(), mode=0o600)
    except OSError as error:
        raise cannot_keep("how a stream was opened", error) from error


def load(folder: Path) -> Stream | None:
    """Return the stream that was kept, None when there is none. `Corrupt` when it can't be read."""
    try:
        document = json.loads((folder / FILE).read_bytes())
        if document["version"] != 1:
            raise ValueError(f"version {document['version']}")
        disks = tuple(DiskSpec(disk["name"], disk["size_bytes"]) for disk in document["disks"])
        return Stream(document["protection_epoch"], disks, document["facts"], document["writer_epoch"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt(f"{folder / FILE} cannot be read: {error}", code="spool-corrupt") from error


@dataclass(frozen=True, slots=True)
class Continuation:
    """What of a spool continues the replica: `apply` in order; `stored` is there already; `void` may not be used."""

    stored: tuple[Spooled, ...]
    apply: tuple[Spooled, ...]
    void: tuple[Spooled, ...]

    @property
    def went_back(self) -> bool:
        """Tell whether the replica is behind all that was kept: the store forgot what it had acknowledged."""
        return bool(self.void) and not self.apply


def continuation(entries: Iterable[Spooled], position: int, protection_epoch: int) -> Continuation:
    """Sort spooled segments by what the replica holds up to `position`.

    Each segment names the one before it; the first that is missing ends what may be applied.
    """
    stored: list[Spooled] = []
    usable: list[Spooled] = []
    void: list[Spooled] = []
    reached = position
    for entry in sorted(entries, key=lambda entry: entry.sequence):
        if entry.protection_epoch == protection_epoch and entry.sequence <= position:
            stored.append(entry)
        elif entry.protection_epoch == protection_epoch and entry.previous <= reached and not void:
            usable.append(entry)
            reached = entry.sequence
        else:
            void.append(entry)
    return Continuation(tuple(stored), tuple(usable), tuple(void))


def writer_changed(server: str, why: str) -> Conflict:
    """Return the error that makes an agent open its stream again."""
    return Conflict(
        f"{server}: {why}", code="writer-changed", remedy="open the stream again and send again what was not stored"
    )


def require_declared(server: str, asked: int, declared: int) -> None:
    """Raise `Refused` unless an agent speaks in the protection epoch that the site declares.

    A higher one would fence the true server for good, and a stolen certificate is enough to claim it.
    """
    if asked < declared:
        raise fenced(server, asked, declared)
    if asked > declared:
        raise Refused(
            f"{server}: protection epoch {asked} was not declared, it is {declared}",
            code="epoch-not-declared",
            remedy="after a failover, `pulumi up` of the site stack tells the process servers; if there was none, "
            f"somebody else holds this server's certificate: `dr revoke {server}`",
        )


def require_near(server: str, asked: int, received: int) -> None:
    """Raise `Refused` when an agent would leave out so many numbers that they could be used up.

    Numbers end at 63 bits and never go back, so whoever jumped there once would keep the true agent out for good.
    """
    if asked > received + MAX_JUMP:
        raise Refused(
            f"{server}: segment {asked} cannot follow {received}",
            code="sequence-too-far",
            remedy="restart the agent's server, which makes it number from what was received; if that is no cure, "
            f"somebody else holds its certificate: `dr revoke {server}`",
        )


def fenced(server: str, asked: int, known: int) -> Refused:
    """Return the error for a protection epoch that is over."""
    return Refused(
        f"{server}: protection epoch {asked} is over, it is {known}",
        code="fenced",
        remedy="this server was failed over; reprotect the recovered one, or remove this one's protection",
    )
