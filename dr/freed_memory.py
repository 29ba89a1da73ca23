"""Keeps freed memory in the process: a segment's buffers are megabytes, and new pages for each cost more than its work.

Measured: a third of a process server's processor time went into page faults (docs/benchmarks.md). glibc gives large
blocks back to the kernel when they are freed and takes new, zeroed pages for the next ones.
"""

from __future__ import annotations

import ctypes

# malloc.h; the largest threshold that glibc takes is 32 MiB.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
KEPT_BYTES = 64 << 20
_LARGEST_BLOCK_BYTES = 32 << 20
_ARENAS = 2  # each keeps that much; one alone would make all threads wait for each other


def keep_freed_memory() -> None:
    """Let malloc keep up to `KEPT_BYTES` of freed memory per arena; does nothing on a C library other than glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK_BYTES)
        mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(_M_ARENA_MAX, _ARENAS)
