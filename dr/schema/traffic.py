"""Bandwidths, times of day and days as people write them: `10Mbit/s`, `08:00`, `mon`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from zoneinfo import available_timezones

from dr.model import Traffic, TrafficWindow
from dr.schema.findings import Finding, closest
from dr.schema.thing import Data, Estate

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
# Bits, as lines are sold; 512 kbit/s is the least that Azure Site Recovery lets one choose.
BANDWIDTH_PATTERN = "^[1-9][0-9]{0,5}(kbit|Mbit|Gbit)/s$"
TIME_PATTERN = "^([01][0-9]|2[0-3]):[0-5][0-9]$"
LEAST_BYTES_PER_SECOND = 512_000 // 8
_UNITS = {"kbit": 10**3, "Mbit": 10**6, "Gbit": 10**9}


def bytes_per_second(text: str) -> int:
    """Return a bandwidth; `ValueError` when it is none."""
    if not re.fullmatch(BANDWIDTH_PATTERN, text):
        raise ValueError(text)
    return int(text[:-6]) * _UNITS[text[-6:-2]] // 8


def minute(text: str) -> int:
    """Return a time of day as its minute."""
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def build_traffic(data: Data | None) -> Traffic:
    """Return the traffic of a policy, unlimited when nothing is said."""
    if data is None:
        return Traffic()
    limit = data.get("bandwidth")
    return Traffic(
        timezone=data["timezone"],
        bandwidth_bytes_per_second=None if limit is None else bytes_per_second(limit),
        windows=tuple(_window(window) for window in data["windows"]),
    )


def check_traffic(estate: Estate) -> Iterator[Finding]:
    """Yield what is wrong with the traffic of policies beyond its shape."""
    for policy in estate.of("ReplicationPolicy"):
        data = policy.data.get("traffic") or {}
        zone = data.get("timezone")
        if zone is not None and zone not in available_timezones():
            message = f'the time-zone database has no "{zone}"; write a name such as Europe/Berlin, or UTC'
            yield policy.finding(("traffic", "timezone"), message, closest(zone, available_timezones()))
        places = [
            (("traffic",), data),
            *((("traffic", "windows", i), w) for i, w in enumerate(data.get("windows", ()))),
        ]
        for place, part in places:
            limit = part.get("bandwidth")
            if limit is not None and bytes_per_second(limit) < LEAST_BYTES_PER_SECOND:
                message = f"bandwidth {limit} is less than 512kbit/s: replication would never keep up"
                yield policy.finding((*place, "bandwidth"), message, remedy="raise it")
        for index, window in enumerate(data.get("windows", ())):
            if "bandwidth" not in window and window.get("resync", True):
                message = "the window limits nothing"
                yield policy.finding(
                    ("traffic", "windows", index), message, remedy="give it a bandwidth, or resync: false"
                )


def _window(data: Data) -> TrafficWindow:
    limit = data.get("bandwidth")
    return TrafficWindow(
        days=tuple(sorted(DAYS.index(day) for day in data["days"])),
        start_minute=minute(data["from"]),
        end_minute=minute(data["to"]),
        bandwidth_bytes_per_second=None if limit is None else bytes_per_second(limit),
        resync=data["resync"],
    )
