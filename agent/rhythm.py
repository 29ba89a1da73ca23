"""When the next round begins: soon after one that found changes, later and later while the disks are quiet. Pure.

A busy server's rounds grow by themselves: the next one begins when what the last one took is on its way, and takes all
that was marked meanwhile. The first write after a quiet time waits for `LONGEST_SECONDS` at most.
"""

from __future__ import annotations

SHORTEST_SECONDS = 0.1
LONGEST_SECONDS = 1.0


class Rhythm:
    """The pauses between rounds; `now` is seconds of a clock that only grows."""

    def __init__(self) -> None:
        self._next = 0.0
        self.pause_seconds = SHORTEST_SECONDS

    def due(self, now: float) -> bool:
        """Tell whether a round may begin."""
        return now >= self._next

    def ended(self, now: float, *, found: bool) -> None:
        """Note that a round has taken everything; `found` tells whether there was anything."""
        self.pause_seconds = SHORTEST_SECONDS if found else min(LONGEST_SECONDS, self.pause_seconds * 2)
        self._next = now + self.pause_seconds

    def hurry(self) -> None:
        """Let the next round begin at once."""
        self._next, self.pause_seconds = 0.0, SHORTEST_SECONDS
