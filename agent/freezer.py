"""Freezes the file systems of a cut and thaws them again, each under the eyes of a watchdog of its own (`held`).

Rules kept here:
- Those that do not lie in each other are frozen at the same time, and all are thawed at the same time: what stands
  still one after the other, an application sees as one long stall.
- A file system whose freeze takes long is given up, named in `stalled`, and the others are thawed: its storage must
  not keep them frozen.
- Whoever freezes runs before others (`first`), also on a server that has too few processors for its work.
- The list of what may be frozen is kept on a tmpfs before the freeze: an agent that finds it at its start thaws.
- `thaw` succeeds only if each FITHAW is our own: a file system that somebody else thawed may have been written.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import time
from itertools import groupby
from typing import Dict, Iterator, List

from agent import log, state
from agent.filesystems import FileSystem
from agent.held import Held
from agent.watchdog import FITHAW
from dr.errors import LifeboatError

READY_SECONDS = 10.0
FREEZE_SECONDS = 2.0  # for those that are frozen at the same time
FROZEN_NICE = -15
RECORD = "freezing.json"


class FreezeFailed(LifeboatError):
    """The freeze could not be prepared."""

    code = "freeze-failed"
    remedy = "see the cause; points are taken without freezing until then"


class Freezer:
    """Holds the file systems of one cut; `prepare`, `freeze`, `thaw`, `close`, in this order."""

    def __init__(self, run_folder: str, deadline_seconds: float) -> None:
        self._record = os.path.join(run_folder, RECORD)
        self._deadline = deadline_seconds
        self._held: List[Held] = []
        self._frozen: List[Held] = []
        self._until = 0.0
        self.frozen_mount_points: List[str] = []
        self.not_frozen: List[Dict[str, str]] = []
        self.stalled: List[str] = []  # mount points whose freeze or thaw did not end in time
        self.overran: List[str] = []  # mount points that a watchdog had to thaw

    def prepare(self, file_systems: List[FileSystem]) -> None:
        """Open each file system and start its watchdog. Raises `FreezeFailed`; `close` is due in any case."""
        try:
            for each in file_systems:
                self._held.append(Held(each, self._deadline))
            for held in self._held:
                if not held.watched(READY_SECONDS):
                    raise FreezeFailed(f"the watchdog of {held.file_system.mount_point} did not start")
            state.save_json(self._record, {"mount_points": [each.mount_point for each in file_systems]})
        except OSError as error:
            raise FreezeFailed(f"{error.filename or 'watchdog'}: {error.strerror}") from error

    def freeze(self) -> bool:
        """Freeze all, in order; what refuses is named in `not_frozen`. False: one is `stalled`, thaw at once."""
        self._until = time.monotonic() + self._deadline
        for _, together in groupby(self._held, key=_turn):
            group = list(together)
            for held in group:
                held.begin_freeze()
            until = time.monotonic() + FREEZE_SECONDS
            for held in group:
                if not held.freeze_ended.wait(max(0.0, until - time.monotonic())) and held.give_up():
                    self.stalled.append(held.file_system.mount_point)
                elif held.refusal is not None:
                    self.not_frozen.append({"name": held.file_system.mount_point, "reason": held.refusal})
                else:
                    self._frozen.append(held)
                    self.frozen_mount_points.append(held.file_system.mount_point)
            if self.stalled:
                return False
        return True

    def thaw(self) -> bool:
        """Thaw all; return whether every thaw was our own and in time."""
        thawing, self._frozen = self._frozen, []
        for held in reversed(thawing):
            held.begin_thaw()
        for held in thawing:
            if not held.thaw_ended.wait(max(0.2, self._until - time.monotonic())):
                self.stalled.append(held.file_system.mount_point)
            elif held.overran:
                self.overran.append(held.file_system.mount_point)
        return all(held.own_thaw for held in thawing) and not self.overran and not self.stalled

    def close(self) -> None:
        """End the watchdogs and close everything; whatever is still frozen is thawed first."""
        if self._frozen:
            self.thaw()
        for held in self._held:
            stuck = held.file_system.mount_point in self.stalled
            if not held.end(0.0 if stuck else READY_SECONDS) and not stuck:
                log.say(f"the watchdog of {held.file_system.mount_point} hangs in a thaw; it ends by itself")
        self._held = []
        if os.path.exists(self._record):
            os.unlink(self._record)


def _turn(held: Held) -> "tuple[int, bool]":
    """Those of one turn do not lie in each other's files; the root alone, because everything runs from it."""
    return held.file_system.depth, held.file_system.mount_point == "/"


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


@contextlib.contextmanager
def first() -> Iterator[None]:
    """Let this thread, and whoever it starts meanwhile, run before others: who holds others up must not wait."""
    before = os.getpriority(os.PRIO_PROCESS, 0)
    with contextlib.suppress(OSError):  # without the right to it, as before
        os.setpriority(os.PRIO_PROCESS, 0, FROZEN_NICE)
    try:
        yield
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


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
