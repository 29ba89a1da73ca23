"""A disk that completes in interrupts, beside a second tracing program: what makes the kernel skip runs of ours.

A file on this machine's own disk is written past the page cache, each 64 KiB of it once. A watcher (a tracker of the
proof's own, in a process that is killed between its steps) marks that disk's chunks. In the end every chunk that was
written must be marked; the watcher says how many runs of our program the kernel had skipped.
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import random
import re
import secrets
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent import tracker
from agent.bpf_assembler import R0, R1, R6, R7, R8, Assembler
from agent.bpf_kernel import attach, load
from agent.chunk_map import CLEAN, chunks_of, map_file
from tests.agent.protected import CHECKOUT, CHUNK, MIB

FILE_BYTES = 1024 * MIB
SPIN_STEPS = 1000
_FIEMAP = 0xC020660B
_GETPPID = 110 if os.uname().machine == "x86_64" else 173
_SPIN = "import os, sys\nos.nice(19)\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: os.getppid()"


@dataclass(frozen=True)
class Skipped:
    """What one run saw."""

    writes: int
    runs: int
    lost: int
    kills: int


class Watcher:
    """The process that tracks; it may be killed and started again."""

    def __init__(self, node: str, device: int, size: int) -> None:
        name = f"lifeboat-proof-{secrets.token_hex(4)}"
        self._folder = Path("/dev/shm") / name
        self._folder.mkdir()
        self._map = self._folder / "disk.map"
        self._map.write_bytes(bytes(chunks_of(size)))
        self._told = {"instance": name, "device": device, "node": node, "size": size}
        self._told |= {"folder": str(self._folder), "map": str(self._map)}
        self._size = size
        self._process: subprocess.Popen[str] | None = None

    def start(self, *, fresh: bool = False, bomb: str = "") -> None:
        command = [sys.executable, "-m", "tests.tracking.watcher"]
        self._process = subprocess.Popen(
            command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({**self._told, "fresh": fresh, "bomb": bomb}) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "ready\n", "the watcher did not start"

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(20)

    def finish(self) -> int:
        """Let one without a bomb take everything, end it, and return how many runs were skipped."""
        self.kill()
        self.start()
        assert self._process is not None
        output, _ = self._process.communicate("", 60)
        assert self._process.returncode == 0, "the watcher failed"
        return int(output)

    def unmarked(self, offsets: Iterator[int]) -> int:
        """Count the places of the disk that are not marked."""
        states = map_file(str(self._map), self._size, create=False)
        return sum(states.state(offset // CHUNK) == CLEAN for offset in offsets)

    def close(self) -> None:
        self.kill()
        name = str(self._told["instance"])
        tracker.remove("/sys/kernel/tracing", name, f"/sys/fs/bpf/{name}")
        shutil.rmtree(self._folder)


class InterruptDisk:
    """The disk below /var/tmp."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="lifeboat-proof-", dir="/var/tmp"))
        node, self._start = _disk_below(self._folder)
        self.name = node.name
        major, minor = (node / "dev").read_text().split(":")
        self._device = int(major) << 20 | int(minor)
        self._size = int((node / "size").read_text()) * 512
        self._path = self._folder / "file"
        _write_zeros(self._path)

    def run(self, seconds: float) -> Skipped:
        """Write for `seconds`, each chunk of a file once, while the watcher is killed now and then."""
        watcher = Watcher(self.name, self._device, self._size)
        file = os.open(self._path, os.O_RDWR | os.O_DIRECT)
        try:
            places = _extents(file)
            watcher.start(fresh=True)
            with _second_program():
                written, kills = _write_once(file, seconds, watcher)
            runs = watcher.finish()
            lost = watcher.unmarked(self._start + _place(places, offset) for offset in written)
            return Skipped(len(written), runs, lost, kills)
        finally:
            os.close(file)
            watcher.close()

    def close(self) -> None:
        self._path.unlink()
        self._folder.rmdir()


def _write_zeros(path: Path) -> None:
    """Write the whole file now: a first write to an allocated block would change the file system's extents as well."""
    buffer = mmap.mmap(-1, 4 * MIB)
    file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_DIRECT)
    for offset in range(0, FILE_BYTES, len(buffer)):
        os.pwritev(file, [buffer], offset)
    os.fsync(file)
    os.close(file)


def _write_once(file: int, seconds: float, watcher: Watcher) -> tuple[list[int], int]:
    order = [chunk * CHUNK for chunk in range(FILE_BYTES // CHUNK)]
    random.shuffle(order)
    buffer, kills = mmap.mmap(-1, 4096), 0
    began = time.monotonic()
    for count, offset in enumerate(order):
        os.pwritev(file, [buffer], offset)
        now = time.monotonic() - began
        if now > seconds:
            return order[: count + 1], kills
        if now > kills + 1:
            watcher.kill()
            watcher.start(bomb="Ring._empty:slots")
            kills += 1
    return order, kills


@contextmanager
def _second_program() -> Iterator[None]:
    """Run another tracing program, which is busy whenever a completion comes."""
    text = Path("/sys/kernel/tracing/events/raw_syscalls/sys_enter/format").read_text()
    found = re.search(r"^ID: (\d+)$", text, re.MULTILINE), re.search(r"long id;\s*offset:(\d+);", text)
    assert found[0] and found[1]
    a = Assembler()
    a.move(R6, R1)
    a.load(8, R1, R6, int(found[1].group(1)))
    a.jump_if(R1, "!=", _GETPPID, "out")
    a.number(R7, 0)
    a.number(R8, 1)
    a.label("again")
    a.combine("add", R8, R7)
    a.calculate("add", R7, 1)
    a.jump_if(R7, "<", SPIN_STEPS, "again")
    a.label("out")
    a.number(R0, 1)
    a.exit()
    program = load("second", a.code)
    link, _ = attach(program, int(found[0].group(1)))
    callers = [subprocess.Popen([sys.executable, "-c", _SPIN, str(cpu)]) for cpu in sorted(os.sched_getaffinity(0))]
    try:
        yield
    finally:
        for caller in callers:
            caller.kill()
            caller.wait()
        os.close(link)
        os.close(program)


def _disk_below(folder: Path) -> tuple[Path, int]:
    """Return the whole disk's folder in sysfs that holds `folder`, and where its file system begins (bytes)."""
    number = folder.stat().st_dev
    node = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve(strict=True)
    slaves = node / "slaves"
    assert not (slaves.is_dir() and any(slaves.iterdir())), f"{folder} must not lie on a stacked device"
    if (node / "partition").exists():
        return node.parent, int((node / "start").read_text()) * 512
    return node, 0


def _extents(file: int) -> list[tuple[int, int, int]]:
    """Return (offset in the file, offset in the file system's device, length) of each extent."""
    request = bytearray(32 + 56 * 4096)
    struct.pack_into("<QQIII", request, 0, 0, FILE_BYTES, 1, 0, 4096)
    fcntl.ioctl(file, _FIEMAP, request)
    count = struct.unpack_from("<I", request, 20)[0]
    return [struct.unpack_from("<QQQ", request, 32 + 56 * number) for number in range(count)]


def _place(extents: list[tuple[int, int, int]], offset: int) -> int:
    logical, physical, _ = next(each for each in extents if each[0] <= offset < each[0] + each[2])
    return physical + offset - logical
