"""A file system that a power cut takes everything from that was not synced: `python -m tests.points.unsynced FOLDER`.

It keeps two trees: the live one, and what the disk would hold. `fsync` of a file brings its content over, `fsync` of a
folder its entries; nothing else does, neither closing nor time. A cut throws the live tree away. What a real disk may
have written without being asked can be kept by chance: of each file its content or the beginning of it, of each folder
all its entries.

Orders come as JSON lines on standard input, each is answered by one on standard output:

| order | does |
| --- | --- |
| `{"do": "arm", "process": PID, "operations": N, "after": BOOL}` | the power goes before or after the N-th change |
| `{"do": "off", "process": PID}` | the power goes now: the process is killed, and nothing answers any more |
| `{"do": "on", "chance": SEED or null}` | what was not synced is gone, or most of it; everything answers again |
"""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import stat
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from mfusepy import FUSE, FuseOSError, Operations

T = TypeVar("T")


class Node:
    """A file, or a folder: live, and as it is on the disk."""

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.data, self.kept_data = bytearray(), b""
        self.entries: dict[str, Node] = {}
        self.kept_entries: dict[str, Node] = {}

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)

    def sync(self) -> None:
        self.kept_data, self.kept_entries = bytes(self.data), dict(self.entries)

    def cut(self, chance: random.Random | None) -> None:
        """Become what the disk holds."""
        if chance is not None and chance.random() < 0.5:
            self.kept_entries = dict(self.entries)
            synced = len(self.kept_data) if self.data.startswith(self.kept_data) else 0
            self.kept_data = bytes(self.data[: chance.randint(synced, len(self.data))])
        self.data, self.entries = bytearray(self.kept_data), dict(self.kept_entries)
        for entry in self.entries.values():
            entry.cut(chance)


class Power:
    """Whether the machine has power, and when it goes; shared by the file system and who gives the orders."""

    def __init__(self) -> None:
        self.on = True
        self.lock = threading.Lock()
        self._process, self._left, self._after = 0, 0, False

    def arm(self, process: int, operations: int, *, after: bool) -> None:
        self._process, self._left, self._after = process, operations, after

    def off(self, process: int) -> None:
        if self.on:
            self.on = False
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def spend(self, change: Callable[[], T]) -> T:
        """Do a change while there is power."""
        with self.lock:
            goes = self.on and self._left == 1
            self._left -= 1
            if goes and not self._after:
                self.off(self._process)
            self.require()
            done = change()
            if goes:
                self.off(self._process)
            self.require()
            return done

    def require(self) -> None:
        if not self.on:
            raise FuseOSError(errno.EIO)


class Forgetful(Operations):  # type: ignore[misc]  # the library has no types
    """The file system; one operation at a time."""

    use_ns = True

    def __init__(self) -> None:
        self.root = Node(stat.S_IFDIR | 0o755)
        self.power = Power()
        self._open: dict[int, Node] = {}
        self._handles = 0

    # -- looking ---------------------------------------------------------------------------------------------------

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        node = self._open[fh] if fh is not None and fh in self._open else self._find(path)
        now = time.time_ns()
        return {
            "st_mode": node.mode,
            "st_size": len(node.data),
            "st_nlink": 2 if node.is_folder else 1,
            "st_mtime": now,
            "st_ctime": now,
            "st_atime": now,
            "st_uid": os.getuid(),
            "st_gid": os.getgid(),
        }

    def readdir(self, path: str, fh: int) -> list[str]:
        return [".", "..", *self._find(path).entries]

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        self.power.require()
        return bytes(self._open[fh].data[offset : offset + size])

    def statfs(self, path: str) -> dict[str, int]:
        return {"f_bsize": 4096, "f_frsize": 4096, "f_blocks": 1 << 20, "f_bavail": 1 << 20, "f_bfree": 1 << 20}

    def open(self, path: str, flags: int) -> int:
        node = self._find(path)
        if flags & os.O_TRUNC:
            self.power.spend(node.data.clear)
        return self._handle(node)

    def release(self, path: str, fh: int) -> int:
        self._open.pop(fh, None)
        return 0

    # -- changing --------------------------------------------------------------------------------------------------

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        return self._handle(self.power.spend(lambda: self._enter(path, Node(stat.S_IFREG | (mode & 0o7777)))))

    def mkdir(self, path: str, mode: int) -> int:
        self.power.spend(lambda: self._enter(path, Node(stat.S_IFDIR | (mode & 0o7777))))
        return 0

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        def change() -> None:
            content = self._open[fh].data
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + len(data)] = data

        self.power.spend(change)
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        node = self._open[fh] if fh is not None and fh in self._open else self._find(path)

        def change() -> None:
            node.data[:] = node.data[:length].ljust(length, b"\0")

        self.power.spend(change)
        return 0

    def chmod(self, path: str, mode: int) -> int:
        node = self._find(path)
        node.mode = stat.S_IFMT(node.mode) | (mode & 0o7777)
        return 0

    def rename(self, old: str, new: str) -> int:
        def change() -> None:
            folder, name = self._place(old)
            self._enter(new, folder.entries[name], replace=True)
            del folder.entries[name]

        self._find(old)
        self.power.spend(change)
        return 0

    def unlink(self, path: str) -> int:
        self._find(path)
        folder, name = self._place(path)
        self.power.spend(lambda: folder.entries.pop(name))
        return 0

    def rmdir(self, path: str) -> int:
        if self._find(path).entries:
            raise FuseOSError(errno.ENOTEMPTY)
        return self.unlink(path)

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self.power.spend(self._open[fh].sync)
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        self.power.spend(self._find(path).sync)
        return 0

    def utimens(self, path: str, times: Any = None) -> int:
        return 0

    def flush(self, path: str, fh: int) -> int:
        return 0

    # -- the trees -------------------------------------------------------------------------------------------------

    def _find(self, path: str) -> Node:
        self.power.require()
        node = self.root
        for name in filter(None, path.split("/")):
            if name not in node.entries:
                raise FuseOSError(errno.ENOENT)
            node = node.entries[name]
        return node

    def _place(self, path: str) -> tuple[Node, str]:
        folder, _, name = path.rpartition("/")
        return self._find(folder), name

    def _enter(self, path: str, node: Node, *, replace: bool = False) -> Node:
        folder, name = self._place(path)
        if name in folder.entries and not replace:
            raise FuseOSError(errno.EEXIST)
        folder.entries[name] = node
        return node

    def _handle(self, node: Node) -> int:
        self._handles += 1
        self._open[self._handles] = node
        return self._handles


def obey(files: Forgetful, order: dict[str, Any]) -> None:
    with files.power.lock:
        if order["do"] == "arm":
            files.power.arm(order["process"], order["operations"], after=order["after"])
        elif order["do"] == "off":
            files.power.off(order["process"])
        else:
            files.root.cut(None if order["chance"] is None else random.Random(order["chance"]))
            files.power.arm(0, 0, after=False)
            files.power.on = True


def listen(files: Forgetful) -> None:
    for line in sys.stdin:
        obey(files, json.loads(line))
        print("{}", flush=True)


if __name__ == "__main__":
    served = Forgetful()
    threading.Thread(target=listen, args=(served,), daemon=True).start()
    # Nothing may be remembered by the kernel: after a cut it would show what is gone.
    options = {"direct_io": True, "attr_timeout": 0, "entry_timeout": 0, "negative_timeout": 0, "hard_remove": True}
    FUSE(served, sys.argv[1], foreground=True, nothreads=True, fsname="forgetful", **options)
