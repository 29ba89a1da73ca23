"""The same delta on a small and on a big disk: tracking must cost by what changed, looking for changes costs by size.

Both disks hold nothing at first, so that the big one costs no room. blocksync is left to the other scenario: one
question and answer for each 64 KiB of the big disk would take the better part of an hour.
"""

from __future__ import annotations

from bench.disk import make_empty
from bench.peers import DELTA_BY_SIZE
from bench.results import Row
from bench.scenarios.delta import COARSE, Deltas
from bench.scenarios.work import Work, medians, split
from bench.sizes import GIB, MIB


def run(work: Work) -> list[Row]:
    """Return a row for each size of disk."""
    total = work.size.coarse_bytes
    rows = []
    for size in (work.size.small_bytes, work.size.big_bytes):
        work.say(f"the same delta on {size // GIB} GiB: first replication of an empty disk")
        image = work.folder / "size.img"
        make_empty(image, size)
        with Deltas(work, image, DELTA_BY_SIZE, direct=True, repeats=1) as deltas:
            seconds, others = split(medians(deltas.measure(total, COARSE), lambda cost: cost.seconds))
        name = f"the same {total // MIB} MiB in writes of 64 KiB on a disk of {size // GIB} GiB, to `received`"
        rows.append(Row(name, "s", "less", seconds, others))
    return rows
