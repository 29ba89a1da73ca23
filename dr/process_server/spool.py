"""The spool: what was acknowledged as `received` and is not yet stored, encrypted, one file per segment.

    SPOOL/SERVER/WRITER_EPOCH/SEQUENCE (decimal, 20 digits, so that names sort as numbers)

    offset  bytes  what (big-endian)
    0       4      b"LSP1"
    4       1      kind: 1 data, 2 a plain cut (may be folded), 3 a cut that must become a point
    5       8      protection epoch
    13      8      the sequence before this one in the stream; not always SEQUENCE - 1, because an agent that lost
                   its memory may open the stream further on
    21      12     nonce, random
    33      n+16   AES-256-GCM ciphertext and tag; authenticated with it: server, writer epoch, sequence, bytes 0 to 32

Rules:
- Temporary file, fsync, rename, fsync of the folder; only then a segment counts as received. So a file under its
  final name is whole; a temporary one was never acknowledged and is dropped by name at the next start.
- A file can't be moved to another server, epoch or sequence, nor left out, without being noticed (`Corrupt`).
- Half of the room is kept for the servers in equal shares, the rest is for whoever comes first: so a server that
  sends without end holds up nobody but itself.
- Synchronous: callers run it in threads. `wipe` and `scan` only while nobody appends to or removes from the same
  server.
"""

from __future__ import annotations

import os
import secrets
import shutil
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dr.durable import make_folder_durably, sync_folder, write_durably
from dr.errors import Corrupt, LifeboatError, PrerequisiteMissing

MAGIC = b"LSP1"
HEADER = struct.Struct(">4sBQQ12s")
KEY_BYTES = 32
TEMPORARY = ".tmp-"
CORRUPT_REMEDY = "the spool was voided and the agent sends again what was not stored; check the disk of this machine"


class SpoolFull(LifeboatError):
    """The spool reached its limit; the agent keeps its marks and tries again."""

    code = "spool-full"
    exit_code = 7
    http_status = 503
    remedy = "wait: it empties as the vault stores; if it stays full, look for store-unavailable or give it more room"


class SpoolShareFull(SpoolFull):
    """One server took all that the others do not have a right to."""

    code = "spool-share-full"
    remedy = "wait: it empties as the vault stores; if it stays full, this server writes more than the vault takes"


def cannot_keep(what: str, error: OSError) -> SpoolFull:
    """Return the error of a spool whose file system takes no more."""
    return SpoolFull(f"the spool cannot keep {what}: {error.strerror}")


class Kind(Enum):
    """What a spooled segment is; decides whether the writer may fold it."""

    DATA = 1
    PLAIN_CUT = 2
    KEPT_CUT = 3


@dataclass(frozen=True, slots=True)
class Spooled:
    """One whole segment in the spool; sizes are bytes in the file."""

    server: str
    writer_epoch: int
    protection_epoch: int
    sequence: int
    previous: int
    kind: Kind
    file_bytes: int


def load_key(path: Path) -> bytes:
    """Return the site's spool key; make one, readable by us only, when there is none.

    Raises `PrerequisiteMissing` when the file holds no key.
    """
    if not path.exists():
        make_folder_durably(path.parent)
        write_durably(path, secrets.token_bytes(KEY_BYTES), mode=0o600)
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise PrerequisiteMissing(
            f"{path} holds {len(key)} bytes and no spool key",
            code="spool-key-invalid",
            remedy="move it away together with the spool; agents send again what was not stored",
        )
    return key


class Spool:
    """Segments of many servers below one folder."""

    def __init__(self, folder: Path, key: bytes, limit_bytes: int) -> None:
        self._folder = folder
        self._cipher = AESGCM(key)
        self._limit_bytes = limit_bytes
        self._used: dict[str, int] = {}
        self._sharing: frozenset[str] = frozenset()
        self._counting = threading.Lock()  # the writer removes while the API appends
        make_folder_durably(folder)

    @property
    def used_bytes(self) -> int:
        """Return the bytes of all files; those of servers that were not scanned yet are missing."""
        return sum(list(self._used.values()))

    def used_bytes_of(self, server: str) -> int:
        """Return the bytes of one server's files."""
        return self._used.get(server, 0)

    def share_among(self, servers: Iterable[str]) -> None:
        """Keep a share for each of `servers`."""
        self._sharing = frozenset(servers)

    def servers(self) -> list[str]:
        """Return the servers that have a folder here."""
        return sorted(entry.name for entry in self._folder.iterdir() if entry.is_dir())

    def folder_of(self, server: str) -> Path:
        """Return a server's folder, made durably when it is not there. `SpoolFull` when it cannot be made."""
        folder = self._folder / server
        if not folder.is_dir():
            try:
                folder.mkdir(mode=0o700)
                sync_folder(self._folder)
            except OSError as error:
                raise cannot_keep("a server", error) from error
        return folder

    def append(self, entry: Spooled, segment: bytes) -> Spooled:
        """Keep `segment` durably and return its entry with its size.

        `SpoolFull` or `SpoolShareFull`; then nothing is kept.
        """
        size = HEADER.size + len(segment) + 16
        self._require_room(entry.server, size)
        nonce = secrets.token_bytes(12)
        header = HEADER.pack(MAGIC, entry.kind.value, entry.protection_epoch, entry.previous, nonce)
        sealed = self._cipher.encrypt(nonce, segment, _bound(entry, header))
        folder = self._path(entry).parent
        temporary = folder / f"{TEMPORARY}{entry.sequence:020d}"
        try:
            self._make_epoch_folder(entry.server, folder)
            _write(temporary, header, sealed)
            temporary.replace(self._path(entry))
            sync_folder(folder)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            self._path(entry).unlink(missing_ok=True)
            raise cannot_keep("a segment", error) from error
        self._count(entry.server, size)
        return replace(entry, file_bytes=size)

    def read(self, entry: Spooled) -> bytes:
        """Return a segment. `Corrupt` `spool-corrupt` when it is not what was kept."""
        try:
            data = self._path(entry).read_bytes()
        except FileNotFoundError:
            raise _corrupt(entry, "is gone") from None
        header = data[: HEADER.size]
        try:
            return self._cipher.decrypt(header[-12:], data[HEADER.size :], _bound(entry, header))
        except InvalidTag:
            raise _corrupt(entry, "was changed, or the key is another one") from None

    def remove(self, entries: Iterable[Spooled]) -> None:
        """Forget segments that are stored. Not durable at once: what comes back is stored already and skipped."""
        for entry in entries:
            self._path(entry).unlink(missing_ok=True)
            self._count(entry.server, -entry.file_bytes)

    def void(self, entries: Iterable[Spooled]) -> None:
        """Forget segments that will never be stored, durably: after a power cut none may come back as one to apply."""
        gone = list(entries)
        self.remove(gone)
        for folder in sorted({self._path(entry).parent for entry in gone}):
            sync_folder(folder)

    def wipe(self, server: str) -> int:
        """Void all segments of a server, durably; return how many there were."""
        folder = self.folder_of(server)
        epochs = [entry for entry in folder.iterdir() if entry.is_dir()]
        count = sum(len(list(epoch.iterdir())) for epoch in epochs)
        for epoch in epochs:
            shutil.rmtree(epoch)
        sync_folder(folder)
        self._used[server] = 0
        return count

    def scan(self, server: str) -> tuple[list[Spooled], list[str]]:
        """Return the whole segments of a server in order of sequence, and the names of torn files, now removed.

        A segment that is missing is noticed by the next one, which names it as `previous`.
        """
        entries: list[Spooled] = []
        torn: list[str] = []
        for epoch in [e for e in self.folder_of(server).iterdir() if e.is_dir() and e.name.isdigit()]:
            for file in epoch.iterdir():
                entry = _entry_of(server, int(epoch.name), file)
                if entry is None:
                    torn.append(f"{epoch.name}/{file.name}")
                    file.unlink()
                else:
                    entries.append(entry)
        self._used[server] = sum(entry.file_bytes for entry in entries)
        return sorted(entries, key=lambda entry: entry.sequence), torn

    def _require_room(self, server: str, size: int) -> None:
        whole = self.used_bytes + size
        if whole > self._limit_bytes:
            raise SpoolFull(f"the spool holds {self.used_bytes} of {self._limit_bytes} bytes")
        share = self._limit_bytes // (2 * max(1, len(self._sharing)))
        kept = sum(max(0, share - self.used_bytes_of(other)) for other in self._sharing - {server})
        if self.used_bytes_of(server) + size > share and whole + kept > self._limit_bytes:
            raise SpoolShareFull(
                f"the spool holds {self.used_bytes_of(server)} bytes of {server}; what is left of {self._limit_bytes} "
                "is kept for the other servers"
            )

    def _count(self, server: str, size: int) -> None:
        with self._counting:
            self._used[server] = self._used.get(server, 0) + size

    def _make_epoch_folder(self, server: str, folder: Path) -> None:
        if not folder.is_dir():
            self.folder_of(server)
            folder.mkdir(mode=0o700)
            sync_folder(folder.parent)

    def _path(self, entry: Spooled) -> Path:
        return self._folder / entry.server / f"{entry.writer_epoch}" / f"{entry.sequence:020d}"


def _write(path: Path, *parts: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def _entry_of(server: str, writer_epoch: int, file: Path) -> Spooled | None:
    """Return the entry of a file, or None when it is none that was ever acknowledged, or was damaged since."""
    if not file.name.isdigit():
        return None
    with file.open("rb") as opened:
        header = opened.read(HEADER.size)
    size = file.stat().st_size
    if size < HEADER.size + 16:
        return None
    magic, kind, protection_epoch, previous, _ = HEADER.unpack(header)
    if magic != MAGIC or kind not in (1, 2, 3):
        return None
    return Spooled(server, writer_epoch, protection_epoch, int(file.name), previous, Kind(kind), size)


def _bound(entry: Spooled, header: bytes) -> bytes:
    return f"{entry.server}/{entry.writer_epoch}/{entry.sequence}/".encode() + header


def _corrupt(entry: Spooled, what: str) -> Corrupt:
    where = f"{entry.server}/{entry.writer_epoch}/{entry.sequence}"
    return Corrupt(f"spool file {where} {what}", code="spool-corrupt", remedy=CORRUPT_REMEDY)
