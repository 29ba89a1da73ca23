"""A chunk, the unit of tracking and of digests: 64 KiB of a disk, and the digest that stands for its content.

| entry | meaning |
| --- | --- |
| 16 x `00` | the content is zeros (or was never written) |
| 16 x `ff` | unknown: the replica's page may be old, new or torn |
| else | BLAKE2b-128 of the content (the last chunk of a disk may be shorter) |

Both sides of the stream compare by it, so it is defined here, where both import from. Pure.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Optional

CHUNK_BYTES = 64 << 10
ENTRY_BYTES = 16
ZERO = bytes(ENTRY_BYTES)
UNKNOWN = b"\xff" * ENTRY_BYTES

_ZEROS = bytes(CHUNK_BYTES)


def digest(content: Optional[bytes]) -> bytes:
    """Return the entry of a chunk's content; None means zeros."""
    if content is None or not any_set(content):
        return ZERO
    return blake2b(content, digest_size=ENTRY_BYTES).digest()


def any_set(content: bytes) -> bool:
    """Tell whether a chunk holds anything but zeros."""
    return content != (_ZEROS if len(content) == CHUNK_BYTES else bytes(len(content)))
