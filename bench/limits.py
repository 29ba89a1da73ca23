"""What the machine gives at best: the slowest stage alone, or all stages' processor time on its processors. Pure.

Replication is a pipeline. However well its stages overlap, it is no faster than the slowest of them, and no faster than
the processors can do the sum of what all of them need for a byte. The limit is the smaller of the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage alone: bytes of the disk per second of the clock, and processor seconds for each byte of the disk."""

    name: str
    bytes_per_second: float
    cpu_seconds_per_byte: float


def limit_bytes_per_second(stages: Sequence[Stage], cores: int) -> float:
    """Return the limit of a pipeline of `stages` on `cores` processors."""
    return min(slowest(stages).bytes_per_second, processors_allow(stages, cores))


def slowest(stages: Sequence[Stage]) -> Stage:
    """Return the slowest stage."""
    return min(stages, key=lambda stage: stage.bytes_per_second)


def processors_allow(stages: Sequence[Stage], cores: int) -> float:
    """Return the bytes per second at which `cores` processors are full."""
    work = sum(stage.cpu_seconds_per_byte for stage in stages)
    return cores / work if work else float("inf")
