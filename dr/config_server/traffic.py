"""What a policy's traffic means at one moment. Pure; the clock is the caller's.

The agent gets the answer with each heartbeat, so it needs no calendar and no time zone, and a source's wrong clock
changes nothing. Without a configuration server it goes on with the last answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from dr.model import Traffic, TrafficWindow

DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Limits:
    """What holds now: a bandwidth in bytes per second (None: unlimited), and until when a resync waits, if it does."""

    bandwidth_bytes_per_second: int | None
    resync_waits_until: datetime | None


def limits_at(traffic: Traffic, now: datetime) -> Limits:
    """Return the limits at `now`, an aware time."""
    window = next((window for window in traffic.windows if _end(traffic, window, now) is not None), None)
    if window is None:
        return Limits(traffic.bandwidth_bytes_per_second, None)
    return Limits(window.bandwidth_bytes_per_second, None if window.resync else _end(traffic, window, now))


def _end(traffic: Traffic, window: TrafficWindow, now: datetime) -> datetime | None:
    """Return when the window that holds `now` ends; None when it does not hold it."""
    local = now.astimezone(ZoneInfo(traffic.timezone))
    minute = local.hour * 60 + local.minute
    length = (window.end_minute - window.start_minute) % DAY or DAY
    for days_ago in (0, 1):
        passed = minute + days_ago * DAY - window.start_minute
        if (local.weekday() - days_ago) % 7 in window.days and 0 <= passed < length:
            # By the wall clock: on a day that is longer or shorter by an hour, the window still ends at its time.
            midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
            return midnight - timedelta(days=days_ago) + timedelta(minutes=window.start_minute + length)
    return None
