"""Durations as people write them: a whole number and its unit, `90s`, `5m`, `24h`, `15d`."""

from __future__ import annotations

import re

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
PATTERN = "^[0-9]{1,9}[smhd]$"


def seconds(text: str) -> int:
    """Return a duration in seconds; `ValueError` when it is none."""
    if not re.fullmatch("[0-9]{1,9}[smhd]", text):
        raise ValueError(text)
    return int(text[:-1]) * _UNITS[text[-1]]
