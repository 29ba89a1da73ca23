"""Processes that outlive the command that started them, and their identity: pid and start time.

A pid alone may belong to a stranger by the time it is used; nothing here ends a process whose start time differs.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from dr.durable import write_durably
from dr.errors import PrerequisiteMissing

# The kernel's start time is exact in ticks; psutil adds the boot time, which a corrected clock moves a little.
START_TOLERANCE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process: `started` is seconds since the epoch."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessIdentity:
        """Return the identity of a process that runs now. Raises `psutil.NoSuchProcess`."""
        return cls(pid, psutil.Process(pid).create_time())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ProcessIdentity:
        return cls(int(values["pid"]), float(values["started"]))

    def as_dict(self) -> dict[str, Any]:
        return {"pid": self.pid, "started": self.started}

    def process(self) -> psutil.Process | None:
        """Return the process if it still runs and is the same one."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started) < START_TOLERANCE_SECONDS
            if not same or process.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.NoSuchProcess:
            return None
        return process

    def alive(self) -> bool:
        return self.process() is not None

    def end(self, *, grace_seconds: float = 10.0) -> bool:
        """Send SIGTERM, and SIGKILL after `grace_seconds`; return whether SIGTERM was enough."""
        process = self.process()
        if process is None:
            return True
        try:
            process.terminate()
            if self.gone_within(grace_seconds):
                return True
            process.kill()
        except psutil.NoSuchProcess:
            return True
        self.gone_within(10.0)
        return False

    def gone_within(self, seconds: float) -> bool:
        """Wait until the process is gone, at most `seconds`; return whether it is."""
        process = self.process()
        if process is None:
            return True
        try:
            process.wait(seconds)
        except psutil.TimeoutExpired:
            return not self.alive()
        return True


@contextmanager
def whole() -> Iterator[None]:
    """Hold Ctrl-C back while inside: a process that runs must also be written down, or nobody could end it."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield  # Python interrupts the main thread only
        return
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came:
        raise KeyboardInterrupt


def start_daemon(
    argv: Sequence[str], *, folder: Path, log: Path, environment: Mapping[str, str] | None = None
) -> ProcessIdentity:
    """Start `argv` in its own session with `folder` as working directory and its output appended to `log`."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        child = subprocess.Popen(
            list(argv),
            cwd=folder,
            env=dict(environment) if environment is not None else None,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise PrerequisiteMissing(f"{argv[0]} is not on this machine", remedy="run `make setup`") from error
    finally:
        os.close(descriptor)
    try:
        return ProcessIdentity.of(child.pid)
    except psutil.NoSuchProcess:
        # It ended before it could be looked at; an identity that matches nothing says so.
        return ProcessIdentity(child.pid, 0.0)


def start_recorded_daemon(
    argv: Sequence[str], *, record: Path, folder: Path, log: Path, environment: Mapping[str, str]
) -> ProcessIdentity:
    """Start a daemon and write its identity to `record`; when that fails (a full disk) it is ended again."""
    with whole():
        identity = start_daemon(argv, folder=folder, log=log, environment=environment)
        try:
            write_durably(record, json.dumps(identity.as_dict()).encode())
        except BaseException:
            identity.end()
            raise
    return identity


def tail(log: Path, *, lines: int = 8) -> str:
    """Return the last lines of a log for an error's text, or nothing when there is none."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
