"""The agent's log: lines on standard error, which systemd keeps.

Rule kept here: while a file system is frozen nothing is written, because the journal may live on it and a blocked
writer would be the agent itself. Lines wait and follow after the thaw.
"""

from __future__ import annotations

import sys
import threading
from typing import List

_lock = threading.Lock()
_waiting: List[str] = []
_held = False
_MAX_WAITING = 200


def say(line: str) -> None:
    """Write one line, or keep it while the log is held."""
    with _lock:
        if _held:
            if len(_waiting) < _MAX_WAITING:
                _waiting.append(line)
            return
    print(line, file=sys.stderr, flush=True)


def hold() -> None:
    """Keep lines back from now on."""
    global _held  # noqa: PLW0603 - one log per process, as there is one standard error
    with _lock:
        _held = True


def release() -> None:
    """Write the lines that were kept back, and all later ones at once."""
    global _held  # noqa: PLW0603 - see hold
    with _lock:
        _held = False
        lines = list(_waiting)
        _waiting.clear()
    for line in lines:
        print(line, file=sys.stderr, flush=True)
