"""One step of a writer: some data segments as one batch, or one cut. The choice is pure, the step runs in a thread.

Rules:
- Segments are applied in the order of the stream; a cut ends a batch, so everything before it is stored first.
- A plain cut behind which another cut waits already is folded: its data is applied, it makes no point of its own.
- A cut that can't become a point is skipped by name, and the stream goes on; data is never skipped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from dr.compile import names
from dr.errors import Conflict, Corrupt, LifeboatError, NotFound
from dr.process_server.admission import info_of, writes_of
from dr.process_server.spool import Kind, Spool, Spooled
from dr.process_server.states import SkippedPoint
from dr.vault.batch import Write
from dr.vault.manifest import from_bytes, parse_time, whole_milliseconds
from dr.vault.replica import ReplicaSet
from dr.vault.store import BlobStore

BATCH_BYTES = 32 << 20
BATCH_SEGMENTS = 256
# Faults of the cut itself; every other failure is one of the store or of the writer.
CUT_FAULTS = frozenset({"digests-unknown", "point-exists", "cut-invalid", "manifest-invalid"})


@dataclass(frozen=True, slots=True)
class Done:
    """What a step stored: the segments, in order, and what became of a cut."""

    entries: tuple[Spooled, ...]
    folded_cuts: int = 0
    point: str | None = None
    skipped: SkippedPoint | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Either one cut that becomes a point, or data segments with folded cuts among them."""

    entries: tuple[Spooled, ...]
    makes_point: bool


def next_step(waiting: Collection[Spooled]) -> Step:
    """Return the next step, of at most `BATCH_SEGMENTS` segments; `waiting` is not empty."""
    last_cut = max((i for i, entry in enumerate(waiting) if entry.kind is not Kind.DATA), default=-1)
    entries: list[Spooled] = []
    for index, entry in enumerate(islice(waiting, BATCH_SEGMENTS)):
        folded = entry.kind is Kind.PLAIN_CUT and index < last_cut
        if entry.kind is not Kind.DATA and not folded:
            return Step(tuple(entries), False) if entries else Step((entry,), True)
        entries.append(entry)
    return Step(tuple(entries), False)


def perform(spool: Spool, store: BlobStore, replica: ReplicaSet, step: Step) -> Done:
    """Apply one step; errors as `ReplicaSet.apply` and `cut`, and `Corrupt` `spool-corrupt`."""
    if step.makes_point:
        return _cut(spool, store, replica, step.entries[0])
    writes: list[Write] = []
    taken: list[Spooled] = []
    size = 0
    for entry in step.entries:
        try:
            data = spool.read(entry)
        except Corrupt:
            if not taken:
                raise
            break  # what came before it is whole and acknowledged: it is stored first
        taken.append(entry)
        if entry.kind is Kind.DATA:
            found = writes_of(data)
            writes += found
            size += sum(write.length for write in found if write.payload is not None)
        if size >= BATCH_BYTES:
            break
    replica.apply(writes, taken[-1].sequence)
    return Done(tuple(taken), folded_cuts=sum(entry.kind is not Kind.DATA for entry in taken))


def _cut(spool: Spool, store: BlobStore, replica: ReplicaSet, entry: Spooled) -> Done:
    info = info_of(spool.read(entry))
    try:
        return Done((entry,), point=replica.cut(info, entry.sequence).id)
    except LifeboatError as error:
        if error.code not in CUT_FAULTS:
            raise
        fault = error
    number = info.get("number")
    number = number if isinstance(number, int) else 0
    replica.apply([], entry.sequence)
    point = _own_point(store, entry, replica, info) if isinstance(fault, Conflict) else None
    if point:
        return Done((entry,), point=point)
    return Done((entry,), skipped=SkippedPoint(number, fault.code, fault.message, fault.remedy))


def _own_point(store: BlobStore, entry: Spooled, replica: ReplicaSet, info: Mapping[str, Any]) -> str | None:
    """Return the point's id when a writer that was killed had made it of this same cut.

    An agent that lost its memory may use number and sequence again; the instant of its cut is another one.
    """
    try:
        blob = names.manifest_blob(replica.server, entry.protection_epoch, info["number"])
        made = from_bytes(store.get(names.MANIFESTS, blob)[0], blob)
        cut_time = whole_milliseconds(parse_time(info["cut_time"]))
    except (NotFound, Corrupt, ValueError, TypeError, KeyError):
        return None  # no such point, or one or the other says nothing usable
    return made.id if (made.sequence, made.cut_time) == (entry.sequence, cut_time) else None
