"""A finding: one error of a declaration with its place, and the search for what was meant.

Rules: lines and columns count from 1; the order of findings is file, line, column, text, so that two runs over
the same files print the same.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

_LONGEST_NAME = 100
NO_SITE = "no Site is declared"


@dataclass(frozen=True, slots=True)
class Finding:
    """One error. `message` is complete but for the suggestion; `str()` gives the line that people read."""

    file: str
    line: int
    column: int
    message: str
    suggestion: str | None = None

    def __str__(self) -> str:
        meant = f' (did you mean "{self.suggestion}"?)' if self.suggestion else ""
        return f"{self.file}:{self.line}:{self.column}: {self.message}{meant}"


def closest(word: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that was probably meant, or None.

    Case, `-` and `_` don't count (`rpo_threshold` is `rpoThreshold`); otherwise difflib's ratio decides.
    """
    if len(word) > _LONGEST_NAME:
        return None
    plain: dict[str, str] = {}
    for candidate in candidates:
        plain.setdefault(_plain(candidate), candidate)
    if _plain(word) in plain:
        return plain[_plain(word)]
    matches = difflib.get_close_matches(_plain(word), list(plain), n=1, cutoff=0.6)
    # `Policy` is too short for the ratio, and still clear.
    matches += [candidate for candidate in plain if len(word) >= 4 and _plain(word) in candidate]
    # So is `Standard_GRS`; `subscriptionId` has more than one key in it, and the longest is meant.
    matches += sorted((c for c in plain if len(c) >= 3 and c in _plain(word)), key=len, reverse=True)
    return plain[matches[0]] if matches else None


def unknown(what: str, word: str, known: Iterable[str], first: Iterable[str] = ()) -> tuple[str, str | None]:
    """Return message and suggestion about a name that nothing has; the names in `first` are more likely meant."""
    known = list(known)
    names = sorted(name for name in known if re.fullmatch("[a-z][a-z0-9-]*", name))  # refused names are not repeated
    meant = closest(word, first) or closest(word, names)
    message = f"unknown {what} {quoted(word)}"
    if meant is None:
        listed = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
        nothing = "; those that are declared have names that were refused" if known else "; none is declared"
        message += f"; there is {listed}" if names else nothing
    return message, meant


def _plain(word: str) -> str:
    return word.replace("_", "").replace("-", "").casefold()


def quoted(value: object, limit: int = 60) -> str:
    """Return a value in double quotes on one line, shortened to `limit` characters; never a private key."""
    if "PRIVATE KEY" in str(value):
        return "a private key"
    text = "".join(c if c.isprintable() else "�" for c in str(value))
    return f'"{text if len(text) <= limit else text[: limit - 1] + "…"}"'
