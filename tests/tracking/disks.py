"""The disks of the proof and who writes to them: every chunk once in each round, so that a lost one stays lost.

A chunk that is written again and again is marked again and again, and a proof that does so finds nothing.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import random
import shutil
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from tests.agent.protected import CHUNK, MIB, LoopDisk

_DISCARD, _ZERO_OUT = 0x1277, 0x127F
_FREEZE, _THAW = 0xC0045877, 0xC0045878
FROZEN_SECONDS = 15.0


def content(seed: str, length: int) -> bytes:
    return random.Random(seed).randbytes(length)


class Written:
    """One disk and its writer: `write` does one round of writes and ends when `stop` is set."""

    writes = 0

    def __init__(self, disk: LoopDisk) -> None:
        self.disk = disk
        self.name = disk.name

    def write(self, round_number: int, seconds: float, stop: threading.Event) -> None:
        raise NotImplementedError

    def rest(self) -> None:
        """Let nothing of the last round be on its way to the disk."""

    def close(self) -> None:
        """Give back what was made besides the disk."""


class Raw(Written):
    """Writes to the device, or to its partitions: each chunk once; A, then B, then A again."""

    def __init__(self, disk: LoopDisk, nodes: list[str] | None = None) -> None:
        super().__init__(disk)
        self._nodes = nodes or [disk.device]
        self._buffer = mmap.mmap(-1, CHUNK)

    def write(self, round_number: int, seconds: float, stop: threading.Event) -> None:
        chooser = random.Random(f"{self.name} {round_number}")
        for node in self._nodes:
            with _opened(node, os.O_DSYNC) as buffered, _opened(node, os.O_DIRECT) as direct:
                chunks = list(range(os.lseek(buffered, 0, os.SEEK_END) // CHUNK))
                chooser.shuffle(chunks)
                pause = seconds / len(self._nodes) / max(1, len(chunks))
                for chunk in chunks:
                    if stop.is_set():
                        return
                    self._write(chooser.random(), (buffered, direct), chunk, f"{node} {chunk} {round_number % 2}")
                    self.writes += 1
                    time.sleep(pause)

    def _write(self, choice: float, files: tuple[int, int], chunk: int, seed: str) -> None:
        start = chunk * CHUNK + 512 * random.Random(seed).randrange(64)
        length = 512 * random.Random(seed).randrange(1, 64)
        if choice < 0.05:
            fcntl.ioctl(files[1], _DISCARD, struct.pack("QQ", chunk * CHUNK, CHUNK))
        elif choice < 0.1:
            fcntl.ioctl(files[1], _ZERO_OUT, struct.pack("QQ", chunk * CHUNK, CHUNK))
        elif choice < 0.5:
            os.pwrite(files[0], content(seed, length), start)
        else:
            self._buffer[:length] = content(seed, length)
            os.pwritev(files[1], [memoryview(self._buffer)[:length]], start)


class _Opened:
    def __init__(self, node: str, flags: int) -> None:
        self._descriptor = os.open(node, os.O_RDWR | flags)

    def __enter__(self) -> int:
        return self._descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def _opened(node: str, flags: int) -> _Opened:
    return _Opened(node, flags)


def partitioned(disk: LoopDisk) -> Raw:
    """Give the disk two partitions, also where the kernel cannot read the table itself."""
    subprocess.run(["sfdisk", "-q", "--no-reread", "--no-tell-kernel", disk.device], input=b",8MiB\n,\n", check=True)
    subprocess.run(["partx", "--add", disk.device], check=True)
    return Partitions(disk, [f"{disk.device}p{number}" for number in (1, 2)])


class Partitions(Raw):
    """A disk that is written through its partitions."""

    def close(self) -> None:
        subprocess.run(["partx", "--delete", self.disk.device], check=True)


class Files(Written):
    """Writes files of a file system, buffered and past the cache; no block twice in a round."""

    def __init__(self, disk: LoopDisk, mount: Path) -> None:
        super().__init__(disk)
        self._mount = mount
        self._buffer = mmap.mmap(-1, 2 * MIB)

    def write(self, round_number: int, seconds: float, stop: threading.Event) -> None:
        for old in self._mount.glob("round-*"):
            shutil.rmtree(old)
        if round_number % 2:
            subprocess.run(["fstrim", str(self._mount)], check=True)
        folder = self._mount / f"round-{round_number}"
        folder.mkdir()
        room = self.disk.size // 3
        ends = time.monotonic() + seconds
        number = 0
        while not stop.is_set() and room > 0 and time.monotonic() < ends:
            length = 4096 * random.choice([1, 2, 5, 16, 40, 512])
            direct = number % 2 == 0
            with _created(folder / str(number), direct=direct) as file:
                self._buffer[:length] = content(f"{self.name} {round_number} {number}", length)
                os.pwritev(file, [memoryview(self._buffer)[:length]], 0)
                if number % 3:
                    os.fsync(file)
            number += 1
            room -= length
            self.writes += 1
            time.sleep(seconds / 200)

    def rest(self) -> None:
        with _opened_folder(self._mount) as descriptor:
            ends = time.monotonic() + FROZEN_SECONDS
            while True:
                try:
                    fcntl.ioctl(descriptor, _FREEZE, 0)  # writes everything, the journal too
                    break
                except OSError as error:  # the agent makes a cut, or was killed in one and its watchdog thaws
                    if error.errno != errno.EBUSY or time.monotonic() > ends:
                        raise
                    time.sleep(0.1)
            with suppress(OSError):  # EINVAL: an agent that starts thaws what an earlier one may have left
                fcntl.ioctl(descriptor, _THAW, 0)


def _created(path: Path, *, direct: bool) -> _Opened:
    return _Opened(str(path), os.O_CREAT | (os.O_DIRECT if direct else 0))


_WRITER = """
import mmap, os, sys
with open(sys.argv[2] + "/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
disk, buffer = os.open(sys.argv[1], os.O_WRONLY | os.O_DIRECT), mmap.mmap(-1, 65536)
for line in sys.stdin:
    chunk, byte = line.split()
    buffer[:] = bytes([int(byte)]) * 65536
    os.pwritev(disk, [buffer], int(chunk) * 65536)
    print(chunk, flush=True)
"""


class Slow(Written):
    """A disk on which a write is under way for a long time while readings are answered at once.

    Its image lies in a file system that is frozen meanwhile; the writer is in a control group of its own, for which
    the loop driver has a worker of its own.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._outer = LoopDisk(folder, "slow-outer", 2 * size)
        subprocess.run(["mkfs.ext4", "-q", self._outer.device], check=True)
        self._mount = folder / "slow"
        self._mount.mkdir()
        subprocess.run(["mount", self._outer.device, str(self._mount)], check=True)
        super().__init__(LoopDisk(self._mount, "slow", size, bytes(size)))
        self._group = _control_group()
        self._next = 0
        command = [sys.executable, "-c", _WRITER, self.disk.device, str(self._group)]
        self._writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def write(self, round_number: int, seconds: float, stop: threading.Event) -> None:
        """Write some chunks once each; every one is under way for a third of a second."""
        ends = time.monotonic() + seconds
        assert self._writer.stdin is not None and self._writer.stdout is not None
        while not stop.is_set() and time.monotonic() < ends:
            chunk, self._next = self._next % (self.disk.size // CHUNK), self._next + 1
            with _opened_folder(self._mount) as descriptor:
                fcntl.ioctl(descriptor, _FREEZE, 0)
                try:
                    self._writer.stdin.write(f"{chunk} {1 + (round_number + self._next) % 255}\n")
                    self._writer.stdin.flush()
                    time.sleep(0.35)
                finally:
                    fcntl.ioctl(descriptor, _THAW, 0)
            assert self._writer.stdout.readline(), "the slow disk's writer failed"
            self.writes += 1

    def close(self) -> None:
        with suppress(OSError), _opened_folder(self._mount) as descriptor:
            fcntl.ioctl(descriptor, _THAW, 0)
        assert self._writer.stdin is not None
        self._writer.stdin.close()
        self._writer.wait(10)
        self._group.rmdir()

    def close_below(self) -> None:
        """Give back what the disk lies on, after the disk itself."""
        subprocess.run(["umount", str(self._mount)], check=True)
        self._outer.close()


class _Folder(_Opened):
    def __init__(self, folder: Path) -> None:
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)


def _opened_folder(folder: Path) -> _Folder:
    return _Folder(folder)


def _control_group() -> Path:
    """Make a control group of the block controller, of either version."""
    parent = Path("/sys/fs/cgroup/blkio")
    if not parent.is_dir():
        parent = Path("/sys/fs/cgroup")
        (parent / "cgroup.subtree_control").write_text("+io")
    group = parent / f"lifeboat-proof-{os.getpid()}"
    group.mkdir()
    return group


class Writers:
    """Lets every disk be written in threads, until told to stop."""

    def __init__(self, disks: list[Written], round_number: int, seconds: float) -> None:
        self._stop = threading.Event()
        self._failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(disk, round_number, seconds)) for disk in disks]
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)

    def wait(self) -> None:
        for thread in self._threads:
            thread.join()
        if self._failures:
            raise self._failures[0]

    def stop(self) -> None:
        self._stop.set()
        self.wait()

    def _run(self, disk: Written, round_number: int, seconds: float) -> None:
        try:
            disk.write(round_number, seconds, self._stop)
        except BaseException as error:
            self._failures.append(error)
