"""JSON from a peer that may be hostile: what one side accepts, every later reader of it can read and write again.

Refused, although Python's parser takes it: NaN and Infinity, also as numbers too large for a float (`1e999`), and
nesting that a reader deeper in its own stack could not follow any more.
"""

from __future__ import annotations

import json
import math
from typing import Any, List, NoReturn, Union

MAX_DEPTH = 32


def loads(text: Union[str, bytes]) -> Any:
    """Return the value in `text` (UTF-8). `ValueError` when it is not JSON or nested deeper than `MAX_DEPTH`."""
    try:
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if _too_deep(value):
        raise ValueError(f"it is nested deeper than {MAX_DEPTH}")
    return value


def _too_deep(value: Any) -> bool:
    level: List[Any] = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for outer in level if isinstance(outer, (dict, list)) for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(outer: Any) -> Any:
    return outer.values() if isinstance(outer, dict) else outer


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        _no_number(digits)
    return value


def _no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant[:40]} is not a JSON number")
