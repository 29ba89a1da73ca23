"""Taking the lease of a replica, and what of the own spool may then be applied. Synchronous; runs in a thread.

Rules:
- Another process server that was the last writer voids our spool before anything else happens.
- `stream.json` holds the epoch that the vault shows *before* we raise it. Each claim raises it by one, so an epoch that
  is further on than that means that somebody else wrote in between, also when we were killed in the middle.
- A disk that left voids our spool: its agent compares everything anew. One that grew or joined does not.
- Only what continues the replica's position without a gap is applied (`stream.continuation`).
"""

from __future__ import annotations

from dataclasses import dataclass

from dr.errors import Corrupt
from dr.process_server import stream as streams
from dr.process_server.spool import Spool, Spooled
from dr.process_server.stream import Stream, fenced, writer_changed
from dr.process_server.vault_side import LastWriter, VaultSide
from dr.vault import fitting
from dr.vault.replica import ReplicaSet


@dataclass(frozen=True, slots=True)
class Taken:
    """A replica that is ours: what of the spool continues it, and what happened to the rest."""

    replica: ReplicaSet
    stream: Stream
    entries: tuple[Spooled, ...]
    voided: int
    torn: tuple[str, ...]
    went_back: bool
    why_void: str


def take(vault: VaultSide, spool: Spool, server: str, stream: Stream) -> Taken:
    """Become the writer of `server` and sort the spool; errors as `ReplicaSet.open`."""
    folder = spool.folder_of(server)
    _refuse_older(spool, server, stream)
    last = vault.last_writer(server)
    fitting.refuse_smaller(server, last.disks, stream.sizes)
    why = _why_void(vault, spool, server, last) or _left(spool, server, stream)
    voided = spool.wipe(server) if why else 0
    streams.save(folder, stream.with_writer_epoch(last.epoch))
    replica = vault.open(server, stream)
    try:
        if replica.writer_epoch != last.epoch + 1:
            voided += spool.wipe(server)
            why = "another process server wrote in between"
        ours = stream.with_writer_epoch(replica.writer_epoch)
        entries, torn = spool.scan(server)
        found = streams.continuation(entries, replica.sequence, stream.protection_epoch)
        spool.remove(found.stored)
        spool.void(found.void)
        streams.save(folder, ours)
    except BaseException:
        replica.close()
        raise
    if found.void and not why:
        why = f"the replica is at position {replica.sequence}, the spool goes on after {found.void[0].previous}"
    voided += len(found.void)
    return Taken(replica, ours, found.apply, voided, tuple(torn), found.went_back or replica.distrusted, why)


def kept_stream(vault: VaultSide, spool: Spool, server: str) -> Stream | None:
    """Return the stream to go on with after a start: None when the spool holds nothing or is void.

    `Unreachable` while that can't be told.
    """
    entries, _ = spool.scan(server)
    stream = _known(spool, server)
    if stream is None or not entries:
        return None
    why = _why_void(vault, spool, server, vault.last_writer(server))
    if why:
        spool.wipe(server)
        raise writer_changed(server, why)
    return stream


def still_ours(vault: VaultSide, server: str, writer_epoch: int) -> bool:
    """Tell whether the vault names us, at this epoch or (a store that went back) an earlier one."""
    last = vault.last_writer(server)
    return last.name == vault.writer and last.epoch <= writer_epoch


def _refuse_older(spool: Spool, server: str, stream: Stream) -> None:
    """Refuse an older protection epoch before `stream.json` forgets the newer one, and with it the spool."""
    known = _known(spool, server)
    if known is not None and stream.protection_epoch < known.protection_epoch:
        raise fenced(server, stream.protection_epoch, known.protection_epoch)


def _left(spool: Spool, server: str, stream: Stream) -> str:
    """Return why the spool is void when it may hold segments of a disk that left; empty when none did."""
    known = _known(spool, server)
    gone = sorted(set(known.sizes) - set(stream.sizes)) if known is not None else []
    return f"disk {', '.join(gone)} left" if gone else ""


def _known(spool: Spool, server: str) -> Stream | None:
    try:
        return streams.load(spool.folder_of(server))
    except Corrupt:
        return None  # without it the spool continues nothing, and is voided


def _why_void(vault: VaultSide, spool: Spool, server: str, last: LastWriter) -> str:
    """Return why our spool is void after the `last` writer; empty when it is not."""
    known = _known(spool, server)
    if known is None:
        return "no stream was open here"
    if last.name and last.name != vault.writer:
        return f"{last.name.split('/')[0]} wrote in between"
    if last.epoch > known.writer_epoch + 1:
        return "another process server wrote in between"
    return ""
