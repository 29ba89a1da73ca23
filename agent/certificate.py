"""What a round of the tracker vouches for: what each witness saw, and so whether every write is known (pure)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Dict, Optional


@dataclass(frozen=True)
class Certificate:
    """The figures of one round; `None` where this machine does not count.

    `ring_events` were read from the ring, `marked_events` were marked in the maps (`coarse_events` of them by 16 MiB),
    `overrun_events` the ring had lost, of which `covered_events` are marked; `skipped_runs` the kernel admits to have
    skipped, `unmarked_events` are the ring's minus the maps' since these were made (negative: the ring was silenced).
    `reason` says why the round is not complete.
    """

    number: int
    complete: bool
    reason: Optional[Dict[str, str]]
    ring_events: int
    marked_events: Optional[int]
    coarse_events: Optional[int]
    overrun_events: int
    covered_events: int
    skipped_runs: Optional[int]
    unmarked_events: Optional[int]

    def as_dict(self) -> Dict[str, Any]:
        """Return it as AgentStatus carries it."""
        return asdict(self)
