"""How long a reading of whole disks will go on, told by the pace it had so far. Pure.

The pace counts from where the reading began, or from where it was when the agent started: a long pause in between
(a process server that was away) makes it slower, as a person who looks at the clock would reckon.
"""

from __future__ import annotations

from typing import Optional, Tuple

SHORTEST_SECONDS = 5.0  # of reading, before its pace says anything


class Pace:
    """Follows one reading after the other."""

    def __init__(self) -> None:
        self._began: Optional[Tuple[int, float]] = None
        self._last = 0

    def remaining_seconds(self, unread_bytes: int, now: float) -> Optional[int]:
        """Return the whole seconds that `unread_bytes` will take; None when nothing is read, or too little was yet."""
        if unread_bytes == 0:
            self._began = None
            return None
        if self._began is None or unread_bytes > self._last:
            self._began = (unread_bytes, now)
        self._last = unread_bytes
        first, since = self._began
        read, seconds = first - unread_bytes, now - since
        if read <= 0 or seconds < SHORTEST_SECONDS:
            return None
        return int(unread_bytes / read * seconds) + 1
