"""A blob store in memory: for tests and for trying things, thread-safe, with faults by script.

It keeps the rules of `dr.vault.store` and passes the same contract suite as the real one. What it adds:
- `script("...E")`: one letter per changing call from now on. `.` works, `E` fails and changes nothing, `A` works but
  the answer is lost, `D` fails and the store is down until `heal()`. After the script's end everything works.
- `save()` and `rollback()`: play a store that went back to an earlier state (also its leases and ETags).
- `clock`: the store's own; blobs and snapshots are stamped with it.
- `calls`: the changing calls so far as (operation, container/name), for tests of order.
"""

from __future__ import annotations

import copy
import itertools
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from dr.errors import Conflict, NotFound, Refused, Unreachable
from dr.vault.store import MAX_PAGES_WRITE, PAGE, BlobEntry, BlobInfo

_PIECE = 1 << 16
_ZEROS = bytes(_PIECE)


class _Content:
    """Bytes in immutable pieces: a copy (a snapshot, a saved state) shares whatever is not written again."""

    def __init__(self, size_bytes: int) -> None:
        self._size = size_bytes
        self._pieces = [_ZEROS] * -(-size_bytes // _PIECE)

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        return self.read(0, self._size)

    def resize(self, size_bytes: int) -> None:
        # A piece that the old end cut through is as short as that: whole pieces are what `read` and `write` count on.
        whole = b"".join(self._pieces).ljust(size_bytes, b"\0")[:size_bytes]
        self._pieces = [whole[at : at + _PIECE] for at in range(0, size_bytes, _PIECE)]
        self._size = size_bytes

    def read(self, offset: int, length: int) -> bytes:
        first, last = offset // _PIECE, -(-(offset + length) // _PIECE)
        return b"".join(self._pieces[first:last])[offset - first * _PIECE :][:length]

    def write(self, offset: int, data: bytes) -> None:
        first, last = offset // _PIECE, -(-(offset + len(data)) // _PIECE)
        start = offset - first * _PIECE
        whole = b"".join(self._pieces[first:last])
        whole = whole[:start] + data + whole[start + len(data) :]
        self._pieces[first:last] = [whole[place : place + _PIECE] for place in range(0, len(whole), _PIECE)]


def _content(data: bytes) -> _Content:
    content = _Content(len(data))
    content.write(0, data)
    return content


@dataclass
class _Blob:
    data: _Content
    pages: bytearray | None  # one flag per page; None: a block blob
    metadata: dict[str, str]
    etag: str
    created: datetime
    lease: str | None = None
    snapshots: dict[str, _Blob] = field(default_factory=dict)


_Blobs = dict[tuple[str, str], _Blob]


class MemoryBlobStore:
    """`BlobStore` in memory; every container exists."""

    def __init__(self, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.calls: list[tuple[str, str]] = []
        self.clock = clock
        self._blobs: _Blobs = {}
        self._lock = threading.RLock()
        self._script: Iterator[str] = iter(())
        self._down = False

    def script(self, letters: str) -> None:
        """Set what the next changing calls do; see the module's table."""
        with self._lock:
            self._script = iter(letters)

    def heal(self) -> None:
        """End a script and bring the store up again."""
        with self._lock:
            self._script, self._down = iter(()), False

    def save(self) -> _Blobs:
        """Return the whole state, for `rollback`."""
        with self._lock:
            return copy.deepcopy(self._blobs)

    def rollback(self, state: _Blobs, *only: str) -> None:
        """Become the state that `save` returned; with blobs named, in what concerns them `only`."""
        with self._lock:
            back = {key: blob for key, blob in copy.deepcopy(state).items() if not only or key[1] in only}
            kept = {key: blob for key, blob in self._blobs.items() if only and key[1] not in only}
            self._blobs = {**kept, **back}

    def put(
        self, container: str, name: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None
    ) -> str:
        with self._changing("put", container, name):
            there = self._blobs.get((container, name))
            if there is not None and if_absent:
                raise Conflict(f"{container}/{name} exists already", code="exists")
            if if_match is not None and (there is None or there.etag != if_match):
                raise Conflict(f"{container}/{name} was changed by somebody else", code="condition-not-met")
            etag = _etag()
            # As in Azure, content that is overwritten is another creation, and snapshots stay.
            kept = there.snapshots if there is not None else {}
            self._blobs[container, name] = _Blob(_content(data), None, {}, etag, self.clock(), snapshots=kept)
            return etag

    def get(self, container: str, name: str) -> tuple[bytes, str]:
        with self._reading():
            blob = self._find(container, name)
            return bytes(blob.data), blob.etag

    def list(self, container: str, prefix: str = "") -> Iterator[str]:
        with self._reading():
            found = sorted(name for kept, name in self._blobs if kept == container and name.startswith(prefix))
        yield from found

    def inventory(self, container: str, prefix: str = "") -> Iterator[BlobEntry]:
        with self._reading():
            found = [
                entry
                for (kept, name), blob in sorted(self._blobs.items())
                if kept == container and name.startswith(prefix)
                for entry in (
                    *(BlobEntry(name, key, snapshot.created) for key, snapshot in sorted(blob.snapshots.items())),
                    BlobEntry(name, None, blob.created),
                )
            ]
        yield from found

    def time(self, container: str) -> datetime:
        with self._reading():
            return self.clock()

    def delete(self, container: str, name: str) -> None:
        with self._changing("delete", container, name):
            there = self._blobs.get((container, name))
            if there is not None and there.lease is not None:
                raise Conflict(f"{container}/{name} is leased", code="lease-lost")
            self._blobs.pop((container, name), None)

    def create_pages(self, container: str, name: str, size_bytes: int, metadata: Mapping[str, str]) -> None:
        with self._changing("create_pages", container, name):
            if (container, name) in self._blobs:
                raise Conflict(f"{container}/{name} exists already", code="exists")
            if size_bytes % PAGE:
                raise Refused(f"{size_bytes} bytes are not whole pages", code="out-of-range")
            content, flags = _Content(size_bytes), bytearray(size_bytes // PAGE)
            self._blobs[container, name] = _Blob(content, flags, dict(metadata), _etag(), self.clock())

    def info(self, container: str, name: str, *, snapshot: str | None = None) -> BlobInfo:
        with self._reading():
            blob = self._find(container, name, snapshot)
            return BlobInfo(name, len(blob.data), blob.etag, dict(blob.metadata))

    def write_pages(self, container: str, name: str, offset: int, data: bytes, *, lease: str | None = None) -> None:
        if len(data) > MAX_PAGES_WRITE:
            raise Refused(f"one write has at most {MAX_PAGES_WRITE} bytes", code="out-of-range")
        self._store_pages("write_pages", container, name, offset, len(data), data, lease)

    def clear_pages(self, container: str, name: str, offset: int, length: int, *, lease: str | None = None) -> None:
        self._store_pages("clear_pages", container, name, offset, length, None, lease)

    def read(self, container: str, name: str, offset: int, length: int, *, snapshot: str | None = None) -> bytes:
        with self._reading():
            blob = self._find(container, name, snapshot)
            if offset < 0 or offset + length > len(blob.data):
                raise Refused(f"{container}/{name} ends before {offset + length}", code="out-of-range")
            return blob.data.read(offset, length)

    def page_ranges(self, container: str, name: str, *, snapshot: str | None = None) -> Iterator[tuple[int, int]]:
        with self._reading():
            flags = bytes(self._find(container, name, snapshot).pages or b"")
        for set_, run in itertools.groupby(enumerate(flags), key=lambda item: item[1]):
            indexes = [index for index, _ in run]
            if set_:
                yield indexes[0] * PAGE, len(indexes) * PAGE

    def set_metadata(self, container: str, name: str, metadata: Mapping[str, str], *, lease: str | None = None) -> str:
        with self._changing("set_metadata", container, name):
            blob = self._leased(container, name, lease)
            blob.metadata, blob.etag = dict(metadata), _etag()
            return blob.etag

    def snapshot(self, container: str, name: str, *, lease: str | None = None) -> str:
        with self._changing("snapshot", container, name):
            blob = self._find(container, name)
            if lease is not None and blob.lease != lease:
                raise Conflict(f"{container}/{name}: the lease is not held", code="lease-lost")
            taken = self.clock()
            while (key := f"{taken.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}0Z") in blob.snapshots:
                taken += timedelta(microseconds=1)
            pages = None if blob.pages is None else bytearray(blob.pages)
            blob.snapshots[key] = _Blob(copy.deepcopy(blob.data), pages, dict(blob.metadata), blob.etag, taken)
            return key

    def delete_snapshot(self, container: str, name: str, snapshot: str) -> None:
        with self._changing("delete_snapshot", container, name):
            blob = self._blobs.get((container, name))
            if blob is not None:
                blob.snapshots.pop(snapshot, None)

    def acquire_lease(self, container: str, name: str) -> str:
        with self._changing("acquire_lease", container, name):
            blob = self._find(container, name)
            if blob.lease is not None:
                raise Conflict(f"{container}/{name} is leased", code="lease-held")
            blob.lease = str(uuid.uuid4())
            return blob.lease

    def change_lease(self, container: str, name: str, lease: str) -> str:
        with self._changing("change_lease", container, name):
            blob = self._leased(container, name, lease)
            blob.lease = str(uuid.uuid4())
            return blob.lease

    def break_lease(self, container: str, name: str) -> None:
        with self._changing("break_lease", container, name):
            self._find(container, name).lease = None

    def copy_snapshot(self, container: str, name: str, snapshot: str, to_container: str, to_name: str) -> None:
        with self._changing("copy_snapshot", to_container, to_name):
            if (to_container, to_name) in self._blobs:
                raise Conflict(f"{to_container}/{to_name} exists already", code="exists")
            source = self._find(container, name, snapshot)
            data, pages = copy.deepcopy(source.data), copy.deepcopy(source.pages)
            self._blobs[to_container, to_name] = _Blob(data, pages, dict(source.metadata), _etag(), self.clock())

    def url(self, container: str, name: str) -> str:
        return f"memory://{container}/{name}"

    def close(self) -> None:
        """Nothing to free."""

    def _store_pages(
        self, call: str, container: str, name: str, offset: int, length: int, data: bytes | None, lease: str | None
    ) -> None:
        with self._changing(call, container, name):
            blob = self._leased(container, name, lease)
            if blob.pages is None or offset % PAGE or length % PAGE or offset < 0 or length <= 0:
                raise Refused(f"{container}/{name}: not whole pages of a page blob", code="out-of-range")
            if offset + length > len(blob.data):
                raise Refused(f"{container}/{name} ends before {offset + length}", code="out-of-range")
            blob.data.write(offset, bytes(length) if data is None else bytes(data))
            flag = b"\0" if data is None else b"\1"
            blob.pages[offset // PAGE : (offset + length) // PAGE] = flag * (length // PAGE)
            blob.etag = _etag()

    def _find(self, container: str, name: str, snapshot: str | None = None) -> _Blob:
        blob = self._blobs.get((container, name))
        if blob is not None and snapshot is not None:
            blob = blob.snapshots.get(snapshot)
        if blob is None:
            raise NotFound(f"{container}/{name}{f' at {snapshot}' if snapshot else ''} does not exist")
        return blob

    def resize_pages(self, container: str, name: str, size_bytes: int, *, lease: str | None = None) -> None:
        with self._changing("resize_pages", container, name):
            blob = self._leased(container, name, lease)
            if blob.pages is None or size_bytes % PAGE:
                raise Refused(f"{container}/{name}: not whole pages of a page blob", code="out-of-range")
            blob.data.resize(size_bytes)
            blob.pages = blob.pages.ljust(size_bytes // PAGE, b"\0")[: size_bytes // PAGE]
            blob.etag = _etag()

    def _leased(self, container: str, name: str, lease: str | None) -> _Blob:
        """Find a blob to change: with a lease on it, only its holder may; without, nobody may claim one."""
        blob = self._find(container, name)
        if blob.lease != lease:
            raise Conflict(f"{container}/{name}: the lease is not held", code="lease-lost")
        return blob

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._lock:
            if self._down:
                raise Unreachable("the store does not answer", code="store-unavailable")
            yield

    @contextmanager
    def _changing(self, call: str, container: str, name: str) -> Iterator[None]:
        with self._reading():
            letter = next(self._script, ".")
            self._down = letter == "D"
            if letter in "DE":
                raise Unreachable("the store does not answer", code="store-unavailable")
            self.calls.append((call, f"{container}/{name}"))
            yield
            if letter == "A":
                raise Unreachable("the store's answer was lost", code="store-unavailable")


def _etag() -> str:
    return f'"{uuid.uuid4().hex}"'
