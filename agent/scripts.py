"""Runs one program of an application's owner, bounded in time and in what it may say.

Rules kept here:
- A program that is late, or is not wanted any more, is ended with its whole process group.
- What it says beyond the last 2,000 bytes is dropped, and never fills a pipe that it then waits for.
- As root only what nobody but root can change is run.
- It ends with whoever runs it: a kill must not leave half a pre script at work.
"""

from __future__ import annotations

import ctypes
import os
import selectors
import signal
import stat
import subprocess
import time
from typing import Callable, Mapping, Optional, Sequence

from dr.errors import LifeboatError

SAID_BYTES = 2000
GRACE_SECONDS = 2.0
LOOK_SECONDS = 0.05
_PR_SET_PDEATHSIG = 1


class ScriptFailed(LifeboatError):
    """A program ended with an error, or could not be started."""

    code = "application-failed"


class ScriptLate(LifeboatError):
    """A program did not end in time and was ended."""

    code = "application-late"


class Abandoned(LifeboatError):
    """Nobody waits for the program any more."""

    code = "application-abandoned"


def run(
    command: Sequence[str],
    what: str,
    *,
    seconds: float,
    environment: Mapping[str, str],
    user: Optional[str] = None,
    abandoned: Callable[[], bool] = lambda: False,
) -> None:
    """Run `command` to its end. Raises `ScriptFailed`, `ScriptLate` or, when `abandoned` says so, `Abandoned`."""
    refuse_unsafe(command[0], what)
    process = start(command, what, environment=environment, user=user, stdin=subprocess.DEVNULL)
    said = _Said(process)
    try:
        deadline = time.monotonic() + seconds
        while process.poll() is None:
            said.listen(LOOK_SECONDS)
            if abandoned():
                raise Abandoned(f"{what}: ended, because nobody waits for it any more")
            if time.monotonic() > deadline:
                raise ScriptLate(f"{what}: ended after {seconds:g} s{said.quoted()}")
        if process.returncode:
            raise ScriptFailed(f"{what}: {_how(process.returncode)}{said.quoted()}")
    finally:
        if process.poll() is None or process.returncode:
            end_group(process)
        said.close()


def start(
    command: Sequence[str],
    what: str,
    *,
    environment: Mapping[str, str],
    user: Optional[str],
    stdin: int,
) -> "subprocess.Popen[bytes]":
    """Start a program in a session of its own. Raises `ScriptFailed`."""
    libc = ctypes.CDLL(None)
    try:
        return subprocess.Popen(
            list(command),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd="/",
            start_new_session=True,
            user=user,
            group=user,
            extra_groups=() if user else None,
            # There is one thread, so nothing can be locked in the child.
            preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509
        )
    except (OSError, LookupError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else str(error)
        raise ScriptFailed(f"{what}: {command[0]} cannot be started: {cause}") from error


def end_group(process: "subprocess.Popen[bytes]") -> None:
    """End a process and all of its group: first asked, then killed."""
    for number, seconds in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue  # in the kernel, waiting for a disk: it ends when it can


def refuse_unsafe(program: str, what: str) -> None:
    """Raise `ScriptFailed` unless only root can change the program, or put another one in its place."""
    path = os.path.realpath(program)
    while True:
        try:
            facts = os.stat(path)
        except OSError as error:
            raise ScriptFailed(f"{what}: {program}: {error.strerror}") from error
        open_to_others = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if facts.st_uid != 0 or (open_to_others and not facts.st_mode & stat.S_ISVTX):
            raise ScriptFailed(f"{what}: {program} is not run as root: others than root may change {path}")
        if path == "/":
            return
        path = os.path.dirname(path)


class _Said:
    """The last of what a program says."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        self._pipe = process.stdout
        self._text = b""
        os.set_blocking(self._pipe.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._pipe, selectors.EVENT_READ)
        self._open = True

    def listen(self, seconds: float) -> None:
        if not self._open:
            time.sleep(seconds)
        elif self._selector.select(seconds):
            self._take()

    def _take(self) -> bool:
        try:
            data = os.read(self._pipe.fileno(), 65536)
        except BlockingIOError:
            return False
        self._text = (self._text + data)[-SAID_BYTES:]
        if not data:
            self._selector.unregister(self._pipe)
            self._open = False
        return bool(data)

    def quoted(self) -> str:
        """Return what was said, as the end of a sentence."""
        for _ in range(64):  # what a child of it still says is not waited for
            if not self._open or not self._take():
                break
        words = " ".join(self._text.decode(errors="replace").split())
        return f": {words}" if words else ""

    def close(self) -> None:
        self._selector.close()
        self._pipe.close()


def _how(code: int) -> str:
    return f"exit code {code}" if code > 0 else f"ended by signal {-code}"
