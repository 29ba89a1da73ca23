"""Keeps what is sent below a bandwidth: after each segment, how long to wait. Pure; the clock is the caller's.

One second of the limit may be sent at once, so that a single small segment never waits.
"""

from __future__ import annotations

from typing import Optional

BURST_SECONDS = 1.0


class Pacer:
    """A bucket that empties at the limit; what runs over is waited for."""

    def __init__(self) -> None:
        self._filled = 0.0
        self._at = 0.0

    def wait_seconds(self, sent_bytes: int, limit_bytes_per_second: Optional[int], now: float) -> float:
        """Return how long to wait after `sent_bytes` were sent at `now`; 0 without a limit."""
        if not limit_bytes_per_second or limit_bytes_per_second < 0:
            self._filled, self._at = 0.0, now
            return 0.0
        emptied = max(0.0, now - self._at) * limit_bytes_per_second
        self._filled = max(0.0, self._filled - emptied) + sent_bytes
        self._at = now
        return max(0.0, self._filled / limit_bytes_per_second - BURST_SECONDS)
