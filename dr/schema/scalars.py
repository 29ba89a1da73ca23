"""What a plain YAML scalar means, strictly: text, whole number, true, false, or nothing; never a guess.

YAML 1.1 and 1.2 readers disagree about some plain words, and people are bitten by it: `port: 08080` is text, 4160
or an error; `on` is a boolean; `22:22` is 1342. Whatever two readers could read differently is refused here with
the two ways to say what was meant. Quoted and block scalars are always text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_OTHER_BASE = re.compile(r"[-+]?0[xob][0-9a-fA-F_]+", re.IGNORECASE)
_UNDERSCORES = re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*")
_SEXAGESIMAL = re.compile(r"[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(inf|nan)", re.IGNORECASE
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ].*)?")
_LONGEST_NUMBER = 64  # what is longer is text; it also keeps these expressions from running for long
_WORDS_OF_1_1 = frozenset({"y", "n", "yes", "no", "on", "off"})


@dataclass(frozen=True, slots=True)
class Decimal:
    """A number that is not whole, as it was written; no key of a declaration wants one."""

    text: str


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """A plain scalar that YAML readers read differently, and what to write instead."""

    reason: str


Scalar = str | int | bool | None | Decimal | Ambiguous


def resolve(text: str) -> Scalar:
    """Return what a plain scalar means."""
    if len(text) > _LONGEST_NUMBER:
        return text
    simple = {"": None, "~": None, "null": None, "true": True, "false": False}
    if text.casefold() in simple:
        return simple[text.casefold()]
    if _INTEGER.fullmatch(text):
        return int(text) if len(text) <= 18 else Decimal(text)
    if text.casefold() in _WORDS_OF_1_1:
        meant = "true" if text.casefold() in {"y", "yes", "on"} else "false"
        off = "; to switch something off leave its key out" if text.casefold() == "off" else ""
        said = f'{text} is {meant} to some YAML readers; write {meant}, or "{text}" in quotes for the text'
        return Ambiguous(said + off)
    return _number_trap(text)


def _number_trap(text: str) -> Scalar:
    if _LEADING_ZERO.fullmatch(text):
        sign, digits = ("-", text[1:]) if text[0] == "-" else ("", text.lstrip("+"))
        number = sign + (digits.lstrip("0") or "0")
        return Ambiguous(
            f"{text} is an octal number to some YAML readers; write {number} for the number"
            f' or "{text}" in quotes for the text'
        )
    if _SEXAGESIMAL.fullmatch(text):
        return Ambiguous(f'{text} is a number in base 60 to some YAML readers; write "{text}" in quotes for the text')
    if _OTHER_BASE.fullmatch(text) or _UNDERSCORES.fullmatch(text):
        return Ambiguous(
            f"{text} is a number to some YAML readers and text to others; write plain digits for the number"
            f' or "{text}" in quotes for the text'
        )
    if _DATE.fullmatch(text):
        return Ambiguous(f'{text} is a date to some YAML readers; write "{text}" in quotes for the text')
    return Decimal(text) if _FLOAT.fullmatch(text) else text
