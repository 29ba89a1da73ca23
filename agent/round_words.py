"""What coordinator and members say to each other on port 20004: one JSON object a line, bounded. Pure.

{"word", "round", "group", "members", "time", "reason"}     reason: null or {"code", "message", "remedy"}
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, List, Optional

from agent.reasons import Reason
from agent.rounds import ORDERS, REPORTS, Shared

MAX_LINE_BYTES = 8192
MAX_WORDS = 32  # of one connection; a round needs four
MAX_MEMBERS = 16
MAX_TEXT = 500


class Garbage(Exception):
    """What came is nothing that a member says."""


@dataclass(frozen=True)
class Said:
    """One word of a round."""

    word: str
    shared: Shared
    reason: Optional[Reason] = None


def line_of(said: Said) -> bytes:
    """Return what goes over the wire."""
    why = said.reason
    document = {
        "word": said.word,
        "round": said.shared.identity,
        "group": said.shared.group,
        "members": list(said.shared.members),
        "time": said.shared.time,
        "reason": {"code": why.code, "message": why.message[:MAX_TEXT], "remedy": why.remedy[:MAX_TEXT]}
        if why
        else None,
    }
    return json.dumps(document).encode() + b"\n"


class Reader:
    """Turns bytes into words; keeps less than a line."""

    def __init__(self) -> None:
        self._left = b""
        self._count = 0

    def feed(self, data: bytes) -> List[Said]:
        """Return the words that are whole now. Raises `Garbage`."""
        lines = (self._left + data).split(b"\n")
        self._left = lines.pop()
        if max(map(len, (*lines, self._left))) > MAX_LINE_BYTES:
            raise Garbage("a line is too long")
        self._count += len(lines)
        if self._count > MAX_WORDS:
            raise Garbage("it says too much")
        return [_said(line) for line in lines]


def _said(line: bytes) -> Said:
    try:
        document = json.loads(line)
        word, members, why = document["word"], document["members"], document["reason"]
        names = tuple(_text(each) for each in members)
        shared = Shared(_text(document["group"]), _text(document["round"]), names, _text(document["time"]))
        cause = Reason(_text(why["code"]), _text(why["message"]), _text(why["remedy"])) if why else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise Garbage("a line is no word of a round") from None
    if word not in ORDERS | REPORTS or len(shared.members) > MAX_MEMBERS:
        raise Garbage("a line is no word of a round")
    return Said(word, shared, cause)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value[:MAX_TEXT]
