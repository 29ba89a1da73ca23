"""The md arrays (Linux software RAID) between file systems and the protected disks, and when they have come to rest.

An array is marked dirty on its disks before a write, and clean again by the kernel itself, a moment after the last one
(`safe_mode_delay`, 0.2 s). A freeze does not stop that mark; so a cut waits for it, or it would be made invalid by it.

Source: Documentation/admin-guide/md.rst of the Linux kernel, "array_state".
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Sequence

SETTLE_SECONDS = 1.0
_AGAIN_SECONDS = 0.01
_UNSETTLED = (b"active", b"active-idle", b"write-pending")


class Arrays:
    """The arrays whose `array_state` files are given; opened now, because nothing is opened while frozen."""

    def __init__(self, state_files: Sequence[str]) -> None:
        self._states = []
        for path in state_files:
            with contextlib.suppress(OSError):  # stopped meanwhile
                self._states.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def settle(self, seconds: float = SETTLE_SECONDS) -> bool:
        """Wait until no array has a mark to write; return False if that took too long."""
        deadline = time.monotonic() + seconds
        while any(_state(file) in _UNSETTLED for file in self._states):
            if time.monotonic() > deadline:
                return False
            time.sleep(_AGAIN_SECONDS)
        return True

    def close(self) -> None:
        """Close the files."""
        for file in self._states:
            os.close(file)
        self._states = []


def _state(file: int) -> bytes:
    try:
        return os.pread(file, 32, 0).strip()
    except OSError:
        return b""  # stopped meanwhile
