"""Probes: a command text and a parser of its output, many of them in one script and one round trip.

Pure: `bundle` makes the script, `split` takes its output apart. A probe changes nothing on the server, reads
nothing from stdin, and prints what it found; complaints on stderr are dropped, its exit code is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from dr.errors import Corrupt

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Output:
    """What a probe's command printed."""

    code: int
    text: str

    @property
    def lines(self) -> list[str]:
        return [line.strip() for line in self.text.splitlines() if line.strip()]


@dataclass(frozen=True, slots=True)
class Probe(Generic[T_co]):
    """`parse` must take any output and never raises; what it cannot read is the fact's "unknown"."""

    name: str
    command: str
    parse: Callable[[Output], T_co]


def bundle(probes: Sequence[Probe[object]], nonce: str) -> str:
    """Return one script that runs all `probes`; `nonce` marks the borders and must not occur in any output."""
    parts = [
        f"printf '\\n{nonce} begin {probe.name}\\n'; ( {probe.command}\n) </dev/null 2>/dev/null; "
        f"printf '\\n{nonce} end %s\\n' $?"
        for probe in probes
    ]
    return "\n".join(parts)


def split(text: str, nonce: str) -> dict[str, Output]:
    """Take the output of `bundle`'s script apart; raises `Corrupt` when it is not whole."""
    found: dict[str, Output] = {}
    pieces = text.split(f"\n{nonce} ")
    name: str | None = None
    body = ""
    for piece in pieces[1:]:
        head, _, rest = piece.partition("\n")
        word, _, value = head.partition(" ")
        if word == "begin":
            name, body = value, rest
        elif word == "end" and name is not None:
            found[name] = Output(int(value), body)
            name = None
    if name is not None:
        raise Corrupt(f"the server's answer ends in the middle of {name}", code="facts-incomplete")
    return found


def read(probe: Probe[T_co], outputs: Mapping[str, Output]) -> T_co:
    """Return the fact of `probe`; raises `Corrupt` when it was not answered."""
    if probe.name not in outputs:
        raise Corrupt(f"the server's answer lacks {probe.name}", code="facts-incomplete")
    return probe.parse(outputs[probe.name])


def words_of(output: Output) -> dict[str, str]:
    """Return lines of the form "word value" as a dictionary."""
    pairs = (line.partition(" ") for line in output.lines)
    return {word: value for word, _, value in pairs}
