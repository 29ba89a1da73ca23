"""Thaws one file system when the agent dies, hangs, or keeps it frozen past the deadline. Runs as its own process.

    watchdog.py CONTROL REPORT FILE_SYSTEM DEADLINE_SECONDS     (three open descriptors, one number)

On CONTROL: `A` arms (the freeze begins now), `D` disarms (thawed), end of file means that the agent is gone. On
REPORT: `R` ready, `T` thawed by the watchdog.

Rules kept here:
- One process for one file system: a thaw that stalls holds up no other.
- Nothing but memory and ioctl once armed: memory is locked, signals that end services are ignored.
- A freeze may still be under way at the deadline, so the thaw is repeated until disarmed, or for a while after the
  agent's end.
"""

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import sys
import time

FITHAW = 0xC0045878
AGAIN_SECONDS = 0.05
AFTER_END_SECONDS = 10.0


def watch(control: int, report: int, file_system: int, deadline_seconds: float) -> None:
    """Serve one file system until the agent disarms for good (end of file while disarmed) or is gone."""
    armed = 0.0
    ended = 0.0
    while True:
        now = time.monotonic()
        if ended and (not armed or now > ended + AFTER_END_SECONDS):
            return
        wait = None if not armed else max(0.0, armed + deadline_seconds - now)
        if not ended and select.select([control], [], [], wait)[0]:
            command = os.read(control, 1)
            if command == b"A":
                armed = time.monotonic()
            elif command == b"D":
                armed = 0.0
            else:
                ended = time.monotonic()
            continue
        if thawed(file_system):
            tell(report, b"T")
            if ended:
                return
        time.sleep(AGAIN_SECONDS)


def thawed(file_system: int) -> bool:
    """Try to thaw; tell whether it was frozen."""
    try:
        fcntl.ioctl(file_system, FITHAW, 0)
    except OSError:
        return False
    return True


def tell(report: int, what: bytes) -> None:
    """Write to the agent if it is still there."""
    with contextlib.suppress(OSError):
        os.write(report, what)


def harden() -> None:
    """Lock memory, outlive the service's end, and be the last to be killed when memory is short."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).mlockall(3)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("-1000")
    except OSError:
        pass  # without the right to it, the service's own score protects it


if __name__ == "__main__":
    harden()
    tell(int(sys.argv[2]), b"R")
    watch(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
