"""The states of one server's writer, each with cause and remedy, and what a writer reports about itself.

| state | means | left by |
| --- | --- | --- |
| no-stream | nothing was opened here since the start, and the spool is empty | `open_stream` |
| spool-recovering | what was received before a restart is taken up again | the vault's answer |
| writing | the lease is ours | an error of the store or of the lease |
| store-unavailable | the store does not answer; the spool goes on receiving until it is full | the store's answer |
| writer-changed | another process server writes; our spool is void | `open_stream` |
| store-went-back | the store forgot what it had acknowledged; our spool is void | `open_stream` |
| spool-corrupt | a segment in the spool is damaged; the spool is void | `open_stream` |
| replica-refused | the replica can't be opened or written, the cause says why; the spool is kept | `open_stream` |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class WriterState(Enum):
    """Where a writer stands; the values travel in the API and in `dr status`."""

    CLOSED = "no-stream"
    RECOVERING = "spool-recovering"
    WRITING = "writing"
    STORE_UNAVAILABLE = "store-unavailable"
    WRITER_CHANGED = "writer-changed"
    STORE_WENT_BACK = "store-went-back"
    SPOOL_CORRUPT = "spool-corrupt"
    REFUSED = "replica-refused"


REMEDIES = {
    WriterState.STORE_UNAVAILABLE: "wait: the writer tries again; check the storage account and the way to it",
    WriterState.WRITER_CHANGED: "nothing to do: the agent opens its stream again where it is served now",
    WriterState.STORE_WENT_BACK: "nothing to do: the agent resyncs by itself; no point is claimed until it is done",
    WriterState.SPOOL_CORRUPT: "check the disk of the process server; the agent sends again what was not stored",
    WriterState.REFUSED: "see the cause; the agent tries again when it opens its stream",
    WriterState.RECOVERING: "wait: what was received before the restart is being stored first",
    WriterState.CLOSED: "nothing to do unless it stays: the agent opens its stream when it has something to send",
    WriterState.WRITING: "",
}


@dataclass(frozen=True, slots=True)
class SkippedPoint:
    """A cut that did not become a recovery point, and why."""

    number: int
    code: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class WriterReport:
    """What one server's writer says about itself; sequences are positions in the stream, sizes bytes."""

    server: str
    state: WriterState
    cause: str
    writer_epoch: int
    received: int
    stored: int
    spool_bytes: int
    waiting_segments: int
    folded_cuts: int
    last_point: str | None
    skipped_point: SkippedPoint | None
    spool_full: bool
    spool_share_full: bool  # because the rest of the spool is kept for other servers

    @property
    def remedy(self) -> str:
        """What a person can do about the state."""
        return REMEDIES[self.state]


@dataclass(frozen=True, slots=True)
class Position:
    """The answer to `GET position`."""

    received: int
    stored: int
    writer_epoch: int
    store_went_back: bool
    last_point: str | None
    skipped_point: SkippedPoint | None


@dataclass(frozen=True, slots=True)
class Opened:
    """The answer to `POST stream`."""

    writer_epoch: int
    next_sequence: int
    received_sequence: int
    stored_sequence: int
    replica_sequence: int
    store_went_back: bool  # also when all that the agent was told is there: somebody has to send everything again
    replica_empty: bool  # an agent may leave out zeros only then
