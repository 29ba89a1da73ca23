"""Freezes the file systems of a cut and thaws them again, each under the eyes of a watchdog of its own.

Rules kept here:
- Everything that opens, allocates or starts a process happens in `prepare`; while frozen there are only ioctls and
  single bytes on pipes.
- The list of what may be frozen is kept on a tmpfs before the freeze: an agent that finds it at its start thaws.
- `thaw` succeeds only if each FITHAW is our own: a file system that somebody else thawed may have been written.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import select
import subprocess
import sys
from dataclasses import dataclass
from typing import Dict, List, Optional

from agent import log, state
from agent.filesystems import FileSystem
from agent.watchdog import FITHAW
from dr.errors import LifeboatError

FIFREEZE = 0xC0045877
READY_SECONDS = 10.0
RECORD = "freezing.json"

_REASONS = {
    errno.EOPNOTSUPP: "its type ({kind}) cannot be frozen",
    errno.ENOTTY: "its type ({kind}) cannot be frozen",
    errno.EBUSY: "another program has frozen it",
}


class FreezeFailed(LifeboatError):
    """The freeze could not be prepared."""

    code = "freeze-failed"
    remedy = "see the cause; points are taken without freezing until then"


@dataclass
class _Frozen:
    """One file system with its watchdog's process and pipes."""

    file_system: FileSystem
    descriptor: int
    process: "subprocess.Popen[bytes]"
    control: int
    report: int
    frozen: bool = False


class Freezer:
    """Holds the file systems of one cut; `prepare`, `freeze`, `thaw`, `close`, in this order."""

    def __init__(self, run_folder: str, deadline_seconds: float) -> None:
        self._record = os.path.join(run_folder, RECORD)
        self._deadline = deadline_seconds
        self._held: List[_Frozen] = []
        self.overrun = False
        self.frozen_mount_points: List[str] = []
        self.not_frozen: List[Dict[str, str]] = []

    def prepare(self, file_systems: List[FileSystem]) -> None:
        """Open each file system and start its watchdog. Raises `FreezeFailed`; `close` is due in any case."""
        try:
            for each in file_systems:
                self._held.append(_watched(each, self._deadline))
            for held in self._held:
                ready, _, _ = select.select([held.report], [], [], READY_SECONDS)
                if not ready or os.read(held.report, 1) != b"R":
                    raise FreezeFailed(f"the watchdog of {held.file_system.mount_point} did not start")
            state.save_json(self._record, {"mount_points": [each.mount_point for each in file_systems]})
        except OSError as error:
            raise FreezeFailed(f"{error.filename or 'watchdog'}: {error.strerror}") from error

    def freeze(self) -> None:
        """Freeze all, in order; what refuses is named in `not_frozen`."""
        for held in self._held:
            if not _told(held, b"A"):
                self.not_frozen.append({"name": held.file_system.mount_point, "reason": "its watchdog was ended"})
                continue
            try:
                fcntl.ioctl(held.descriptor, FIFREEZE, 0)
                held.frozen = True
                self.frozen_mount_points.append(held.file_system.mount_point)
            except OSError as error:
                _told(held, b"D")
                text = _REASONS.get(error.errno or 0, error.strerror or "it cannot be frozen")
                kind = held.file_system.kind
                self.not_frozen.append({"name": held.file_system.mount_point, "reason": text.format(kind=kind)})

    def thaw(self) -> bool:
        """Thaw all in the reverse order; return whether every thaw was our own and in time."""
        own = True
        for held in reversed(self._held):
            if not held.frozen:
                continue
            try:
                fcntl.ioctl(held.descriptor, FITHAW, 0)
            except OSError:
                own = False
            held.frozen = False
            _told(held, b"D")
        return own and not self.thawed_by_watchdog()

    def thawed_by_watchdog(self) -> bool:
        """Tell whether a watchdog had to thaw."""
        for held in self._held:
            if select.select([held.report], [], [], 0)[0] and os.read(held.report, 16):
                self.overrun = True
        return self.overrun

    def close(self) -> None:
        """End the watchdogs and close everything; whatever is still frozen is thawed first."""
        if any(held.frozen for held in self._held):
            self.thaw()
        for held in self._held:
            os.close(held.control)
            os.close(held.report)
            os.close(held.descriptor)
        for held in self._held:
            try:
                held.process.wait(READY_SECONDS)
            except subprocess.TimeoutExpired:
                log.say(f"the watchdog of {held.file_system.mount_point} hangs in a thaw; it ends by itself")
        self._held = []
        if os.path.exists(self._record):
            os.unlink(self._record)


def thaw_leftovers(run_folder: str) -> List[str]:
    """Thaw what a killed agent may have left frozen; return the mount points that were."""
    path = os.path.join(run_folder, RECORD)
    try:
        with open(path, encoding="utf-8") as file:
            mount_points = json.load(file)["mount_points"]
    except (OSError, ValueError, KeyError):
        return []
    thawed = []
    for mount_point in reversed(mount_points):
        try:
            descriptor = os.open(mount_point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            continue  # unmounted meanwhile, so it is not frozen
        try:
            fcntl.ioctl(descriptor, FITHAW, 0)
            thawed.append(mount_point)
        except OSError:
            pass  # EINVAL: it was not frozen
        finally:
            os.close(descriptor)
    os.unlink(path)
    return thawed


def _told(held: _Frozen, command: bytes) -> bool:
    """Tell the watchdog; False when somebody ended it. Nothing may keep the other file systems from their thaw."""
    try:
        os.write(held.control, command)
    except OSError:
        return False
    return True


def lock_memory() -> None:
    """Lock what is in use now and what is touched later: a page must not have to come from a frozen disk."""
    libc = ctypes.CDLL(None, use_errno=True)
    current, future, on_fault = 1, 2, 4
    if libc.mlockall(current | future | on_fault) != 0:
        libc.mlockall(current)


def sync_file_system(descriptor: int) -> None:
    """Write a file system's dirty data to its disk."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syncfs(descriptor) != 0:
        raise OSError(ctypes.get_errno(), "syncfs")


def _watched(file_system: FileSystem, deadline_seconds: float) -> _Frozen:
    descriptor = os.open(file_system.mount_point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    control_read, control = os.pipe()
    report, report_write = os.pipe()
    try:
        inherited = (control_read, report_write, descriptor)
        command = [sys.executable, "-I", "-S", "-c", _source()]
        process = subprocess.Popen(
            [*command, *(str(each) for each in inherited), str(deadline_seconds)],
            pass_fds=inherited,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
    finally:
        os.close(control_read)
        os.close(report_write)
    return _Frozen(file_system, descriptor, process, control, report)


_script: Optional[str] = None


def _source() -> str:
    global _script  # noqa: PLW0603 - read once, because a package may be replaced under a running agent
    if _script is None:
        loader = sys.modules["agent.watchdog"].__spec__
        assert loader is not None and loader.loader is not None
        _script = loader.loader.get_source("agent.watchdog")  # type: ignore[attr-defined]  # zip and file loaders have it
    return _script or ""
