"""Files, directories and links of ext4 and XFS in one shape, over the dissect libraries.

Names and link texts are as they are on the disk, bytes that are no UTF-8 as surrogates (`os.fsencode` gives them back).
What the libraries get wrong is done here: unwritten extents of XFS are zeros, and a file that is stored in a way that
they do not know (XFS real-time, long inline data of ext4, encryption) is refused by name.
"""

from __future__ import annotations

import stat
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from dissect.util.stream import RunlistStream

from dr.errors import Corrupt, LifeboatError, Refused

_EXT_ENCRYPTED, _EXT_INLINE = 0x800, 0x10000000
_XFS_REALTIME = 1


class Node(ABC):
    """One inode; `mode` with its type bits, times in nanoseconds since 1970."""

    mode: int
    size: int
    uid: int
    gid: int
    mtime_ns: int
    inode: int

    @property
    def kind(self) -> str:
        """Return "file", "directory", "link", or what else it is."""
        return _KINDS.get(stat.S_IFMT(self.mode), "unknown")

    @abstractmethod
    def link(self) -> str:
        """Return the text of a link."""

    @abstractmethod
    def children(self) -> Iterator[tuple[str, Node]]:
        """Yield name and node of a directory's entries, without "." and ".."."""

    @abstractmethod
    def open(self) -> BinaryIO:
        """Return the content of a file. `Refused` `file-unsupported`."""


_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "link",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}


class ExtNode(Node):
    """An inode of ext2, ext3 or ext4."""

    def __init__(self, found: Any) -> None:
        self._found = found
        with _understood(found):
            raw = found.inode
            self.mode, self.size, self.inode = int(raw.i_mode), int(found.size), int(found.inum)
            self.uid = int(raw.i_uid) | _high(raw, "i_uid_high")
            self.gid = int(raw.i_gid) | _high(raw, "i_gid_high")
            self.mtime_ns, self._flags = int(found.mtime_ns), int(raw.i_flags)

    def link(self) -> str:
        with _understood(self._found):
            return str(self._found.link)

    def children(self) -> Iterator[tuple[str, Node]]:
        self._require_plain()
        for each in _entries(self._found):
            yield each.filename, ExtNode(each)

    def open(self) -> BinaryIO:
        self._require_plain()
        with _understood(self._found):
            return cast("BinaryIO", _Content(self._found, self._found.open()))

    def _require_plain(self) -> None:
        if self._flags & _EXT_ENCRYPTED:
            raise _unsupported("it is encrypted by the file system")
        if self._flags & _EXT_INLINE and self.size > 60:
            raise _unsupported("its content is inside its inode")


class XfsNode(Node):
    """An inode of XFS."""

    def __init__(self, found: Any) -> None:
        self._found = found
        with _understood(found):
            raw = found.inode
            self.mode, self.size, self.inode = int(raw.di_mode), int(raw.di_size), int(found.inum)
            self.uid, self.gid, self.mtime_ns = int(raw.di_uid), int(raw.di_gid), int(found.mtime_ns)

    def link(self) -> str:
        with _understood(self._found):
            return str(self._found.link)

    def children(self) -> Iterator[tuple[str, Node]]:
        for each in _entries(self._found):
            yield each.filename, XfsNode(each)

    def open(self) -> BinaryIO:
        if int(self._found.inode.di_flags) & _XFS_REALTIME:
            raise _unsupported("it is on the real-time device")
        with _understood(self._found):
            if int(self._found.inode.di_format) not in {2, 3}:  # extents, B-tree
                return cast("BinaryIO", _Content(self._found, self._found.open()))
            xfs = self._found.xfs
            runs = RunlistStream(xfs.fh, list(self._runs()), self.size, xfs.block_size)
            return cast("BinaryIO", _Content(self._found, runs))

    def _runs(self) -> Iterator[tuple[int | None, int]]:
        """Yield the file's runs; the library takes unwritten extents for content."""
        found = self._found
        xfs, at, needed = found.xfs, 0, -(-self.size // found.xfs.block_size)
        for offset, block, count, unwritten in found._iter_blocks():
            if offset < at:
                raise Corrupt(
                    f"inode {self.inode}: its extents overlap",
                    code="file-system-invalid",
                    remedy="use another point; or fail over, and let fsck look at it there",
                )
            if offset > at:
                yield None, offset - at
            group, within = block >> xfs.sb.sb_agblklog, block & ((1 << xfs.sb.sb_agblklog) - 1)
            yield None if unwritten else group * xfs.sb.sb_agblocks + within, count
            at = offset + count
        if at < needed:
            yield None, needed - at


@contextmanager
def _understood(found: Any) -> Iterator[None]:
    """Raise `Corrupt` `file-system-invalid` for whatever a library says of a broken inode; each says it its own way."""
    try:
        yield
    except LifeboatError:
        raise
    except Exception as error:
        raise Corrupt(
            f"inode {found.inum} cannot be read: {type(error).__name__}: {str(error)[:200]}",
            code="file-system-invalid",
            remedy="use another point; or fail over, and let fsck look at it there",
        ) from error


class _Content:
    """A file's content, read from its begin on; what a library says of a broken one is `Corrupt`."""

    def __init__(self, found: Any, stream: Any) -> None:
        self._found, self._stream = found, stream

    def read(self, length: int = -1) -> bytes:
        with _understood(self._found):
            return bytes(self._stream.read(length))


def _entries(found: Any) -> Iterator[Any]:
    """Yield the entries of a directory, without "." and ".."."""
    with _understood(found):
        entries = found.iterdir()
    while True:
        with _understood(found):
            each = next(entries, None)
        if each is None:
            return
        if each.filename not in {".", ".."}:
            yield each


def _high(raw: Any, name: str) -> int:
    return int(getattr(raw, name, 0)) << 16


def _unsupported(why: str) -> Refused:
    return Refused(
        f"this file cannot be read: {why}", code="file-unsupported", remedy="fail over, and copy it on the server"
    )
