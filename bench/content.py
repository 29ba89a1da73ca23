"""Content of a disk as servers have it: 40 % zeros, 30 % that packs well (text), 30 % that does not (archives, media).

Deterministic by seed, made in pieces of 1 MiB; no two pieces are equal.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

PIECE_BYTES = 1 << 20
ZERO_SHARE = 0.4
TEXT_SHARE = 0.3

_POOL_BYTES = 8 << 20
_WORDS = (  # noqa: SIM905 - read as a line of a log
    "2026-11-24T08:15:30Z INFO WARN request GET POST /cart /order /pay customer=%d amount=%d.99 EUR status=200 "
    "status=404 session item stock shelf Lieferung Rechnung warehouse refund null true false {} [] id name price"
).split()


class Content:
    """A source of pieces; the same seed gives the same pieces in the same order."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)
        self._text = _text(self._random)

    def mixed(self, size_bytes: int) -> Iterator[bytes | None]:
        """Yield a disk's content piece by piece; None is a piece of zeros."""
        for number in range(size_bytes // PIECE_BYTES):
            kind = self._kind(number)
            yield None if kind == "zero" else self._piece(kind == "text", PIECE_BYTES)

    def changed(self, length: int) -> bytes:
        """Return new content for a write of `length` bytes; half of all writes pack well."""
        return self._piece(self._random.random() < 0.5, length)

    def place(self, size_bytes: int, length: int) -> int:
        """Return where such a write goes: anywhere, aligned to its length."""
        return self._random.randrange(size_bytes // length) * length

    def _kind(self, number: int) -> str:
        # Runs of eight pieces, in exact shares: every size of disk has the same mixture.
        turn = number // 8 % 10
        if turn < 10 * ZERO_SHARE:
            return "zero"
        return "text" if turn < 10 * (ZERO_SHARE + TEXT_SHARE) else "random"

    def _piece(self, text: bool, length: int) -> bytes:
        if not text:
            return self._random.randbytes(length)
        start = self._random.randrange(_POOL_BYTES - length)
        stamp = b"%016x" % self._random.getrandbits(64)
        return stamp + self._text[start + len(stamp) : start + length]


def write_image(path: Path, content: Content, size_bytes: int) -> int:
    """Write a disk's image with holes for zeros; return how many bytes of it are not zeros."""
    filled = 0
    with path.open("wb") as file:
        for piece in content.mixed(size_bytes):
            if piece is None:
                file.seek(PIECE_BYTES, 1)
            else:
                filled += file.write(piece)
        file.truncate(size_bytes)
    return filled


def _text(chooser: random.Random) -> bytes:
    # One random line in eight is new; the others come back, as lines of logs and tables do.
    lines = [_line(chooser) for _ in range(4096)]
    parts, length = [], 0
    while length < _POOL_BYTES:
        line = _line(chooser) if chooser.random() < 0.125 else chooser.choice(lines)
        parts.append(line)
        length += len(line)
    return b"".join(parts)[:_POOL_BYTES]


def _line(chooser: random.Random) -> bytes:
    words = chooser.choices(_WORDS, k=12)
    return (" ".join(word.replace("%d", str(chooser.getrandbits(24))) for word in words) + "\n").encode()
