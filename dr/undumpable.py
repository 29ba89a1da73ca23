"""Keeps a process's memory, which holds keys and passphrases, out of core files and of others' debuggers.

Runs on Python 3.9: the agent shares it.
"""

from __future__ import annotations

import ctypes
import resource

PR_SET_DUMPABLE = 4  # linux/prctl.h


def forbid_dumps() -> None:
    """Leave no core file whatever happens; the limit alone would not bind a kernel that pipes them to a program."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
