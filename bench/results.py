"""A row of the results: what was measured, of ours and of the peers, and the two ratios. Pure.

    [{"name", "unit", "better", "ours", "peers": {...}, "ratio_to_best_peer", "limit", "ratio_to_limit", "note", "run"}]

A ratio above 1 means that ours is better, whichever way the figure is counted: for "more" it is ours / other, for
"less" it is other / ours. `run` says of each row on what it was measured: no path, no host name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Better = Literal["more", "less"]


@dataclass(frozen=True, slots=True)
class Run:
    """What a run was: its size (`short` or `full`), the machine, and how busy others kept it."""

    size: str
    date: str
    cores: int
    processor: str
    memory_gib: int
    kernel: str
    python: str
    repeats: int  # of first copies
    delta_repeats: int
    busy_beside: float  # processors that others kept busy, averaged over the run


@dataclass(frozen=True, slots=True)
class Row:
    """One figure; `limit` is what the machine gives at best, None where nothing says so."""

    name: str
    unit: str
    better: Better
    ours: float
    peers: Mapping[str, float] = field(default_factory=dict)
    limit: float | None = None
    note: str = ""

    @property
    def best_peer(self) -> float | None:
        """Return the best peer's figure."""
        if not self.peers:
            return None
        return (max if self.better == "more" else min)(self.peers.values())

    @property
    def ratio_to_best_peer(self) -> float | None:
        """Return how often better ours is than the best peer."""
        return self._ratio(self.best_peer)

    @property
    def ratio_to_limit(self) -> float | None:
        """Return which part of the limit ours reaches."""
        return self._ratio(self.limit)

    def _ratio(self, other: float | None) -> float | None:
        over, under = (self.ours, other) if self.better == "more" else (other, self.ours)
        return None if over is None or not under else over / under


def document(rows: Sequence[Row], run: Run) -> list[dict[str, Any]]:
    """Return what `results.json` holds."""
    return [
        {
            "name": row.name,
            "unit": row.unit,
            "better": row.better,
            "ours": rounded(row.ours),
            "peers": {name: rounded(value) for name, value in row.peers.items()},
            "ratio_to_best_peer": rounded(row.ratio_to_best_peer),
            "limit": rounded(row.limit),
            "ratio_to_limit": rounded(row.ratio_to_limit),
            "note": row.note,
            "run": asdict(run),
        }
        for row in rows
    ]


def to_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the file's text: one row a line, so that a change of one figure is a change of one line."""
    return "[\n" + ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows) + "\n]\n"


def rounded(value: float | None) -> float | None:
    """Return `value` with three digits that mean something; more of them would be noise."""
    if value is None:
        return None
    return float(f"{value:.3g}") if abs(value) < 1000 else float(round(value))
