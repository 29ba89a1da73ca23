"""One file system of a cut: its open descriptor, its watchdog's process, and the thread that freezes and thaws it.

Rules kept here:
- One thread and one watchdog for one file system: a freeze or a thaw that stalls holds up no other.
- A freeze that is under way can't be aborted. One that was given up is thawed by the thread that began it as soon as
  it has ended, and by its watchdog when the agent is gone by then.
- Everything that opens, allocates or starts happens before the freeze; then there are ioctls and bytes on pipes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import queue
import select
import subprocess
import sys
import threading
from typing import Optional

from agent.filesystems import FileSystem
from agent.watchdog import FITHAW

FIFREEZE = 0xC0045877

_REASONS = {
    errno.EOPNOTSUPP: "its type ({kind}) cannot be frozen",
    errno.ENOTTY: "its type ({kind}) cannot be frozen",
    errno.EBUSY: "another program has frozen it",
}


class Held:
    """A file system between its opening and its end; `begin_freeze`, then `begin_thaw`, each once."""

    def __init__(self, file_system: FileSystem, deadline_seconds: float) -> None:
        """Open it and start watchdog and thread. Raises `OSError`."""
        self.file_system = file_system
        self.descriptor = os.open(file_system.mount_point, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.refusal: Optional[str] = None  # why it is not frozen
        self.frozen = False
        self.own_thaw = True
        self.overran = False  # a watchdog had to thaw
        self.freeze_ended, self.thaw_ended = threading.Event(), threading.Event()
        self._given_up = False
        self._deciding = threading.Lock()
        self._orders: "queue.SimpleQueue[str]" = queue.SimpleQueue()
        control_read, self._control = os.pipe()
        self.report, report_write = os.pipe()
        try:
            inherited = (control_read, report_write, self.descriptor)
            command = [sys.executable, "-I", "-S", "-c", _source(), *(str(each) for each in inherited)]
            self.process = subprocess.Popen(
                [*command, str(deadline_seconds)],
                pass_fds=inherited,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
            )
        except BaseException:
            for each in (self.descriptor, self._control, self.report):
                os.close(each)
            raise
        finally:
            os.close(control_read)
            os.close(report_write)
        self._thread = threading.Thread(target=self._serve, name=f"freeze {file_system.mount_point}", daemon=True)
        self._thread.start()

    def watched(self, seconds: float) -> bool:
        """Wait until the watchdog is ready; False when it did not start."""
        ready, _, _ = select.select([self.report], [], [], seconds)
        return bool(ready) and os.read(self.report, 1) == b"R"

    def begin_freeze(self) -> None:
        """Let the thread freeze it; `freeze_ended` tells when."""
        self._orders.put("freeze")

    def give_up(self) -> bool:
        """Give up a freeze that does not end; False when it has ended meanwhile."""
        with self._deciding:
            self._given_up = not self.freeze_ended.is_set()
            return self._given_up

    def begin_thaw(self) -> None:
        """Let the thread thaw it; `thaw_ended` tells when."""
        self._orders.put("thaw")

    def end(self, seconds: float) -> bool:
        """Let go of everything; False when it stalls, then its thread does so later."""
        self._orders.put("end")
        self._thread.join(seconds)
        if self._thread.is_alive():
            return False
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _serve(self) -> None:
        try:
            if self._orders.get() == "freeze":
                self._freeze()
                if self._given_up or self.frozen:
                    if not self._given_up:
                        self._orders.get()  # "thaw", or the "end" of a freezer that is closed early
                    self._thaw()
        finally:
            for each in (self._control, self.report, self.descriptor):
                os.close(each)

    def _freeze(self) -> None:
        frozen, refusal = False, None
        if not self._tell(b"A"):
            refusal = "its watchdog was ended"
        else:
            try:
                fcntl.ioctl(self.descriptor, FIFREEZE, 0)
                frozen = True
            except OSError as error:
                self._tell(b"D")
                refusal = _REASONS.get(error.errno or 0, error.strerror or "it cannot be frozen")
                refusal = refusal.format(kind=self.file_system.kind)
        with self._deciding:
            self.frozen, self.refusal = frozen, refusal
            self.freeze_ended.set()

    def _thaw(self) -> None:
        if self.frozen:
            try:
                fcntl.ioctl(self.descriptor, FITHAW, 0)
            except OSError:
                self.own_thaw = False
            self._tell(b"D")
            self.overran = bool(select.select([self.report], [], [], 0)[0] and os.read(self.report, 16))
        self.frozen = False
        self.thaw_ended.set()

    def _tell(self, command: bytes) -> bool:
        """Tell the watchdog; False when somebody ended it. Nothing may keep a file system from its thaw."""
        try:
            os.write(self._control, command)
        except OSError:
            return False
        return True


_script: Optional[str] = None


def _source() -> str:
    global _script  # noqa: PLW0603 - read once, because a package may be replaced under a running agent
    if _script is None:
        loader = sys.modules["agent.watchdog"].__spec__
        assert loader is not None and loader.loader is not None
        _script = loader.loader.get_source("agent.watchdog")  # type: ignore[attr-defined]  # zip and file loaders have it
    return _script or ""
