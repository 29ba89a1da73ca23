"""How much a run measures: `short` in minutes, to see that all of it works; `full` is what gets published."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes, seconds and repetitions of a run."""

    name: str
    disk_bytes: int
    small_bytes: int  # two disks that differ in nothing but size, for the same delta on both
    big_bytes: int
    coarse_bytes: int  # of the delta in writes of 64 KiB
    fine_bytes: int  # and of the one in writes of 4 KiB
    stored_bytes: int  # the disk that is replicated into the throttled store
    repeats: int  # of first copies
    delta_repeats: int
    fio_seconds: int
    fio_pairs: int  # tracking off and on, alternated


SIZES = {
    size.name: size
    for size in (
        Size("short", GIB, GIB, 8 * GIB, 32 * MIB, 8 * MIB, 256 * MIB, 1, 1, 4, 2),
        Size("full", 8 * GIB, 8 * GIB, 64 * GIB, 256 * MIB, 64 * MIB, 2 * GIB, 3, 1, 10, 5),
    )
}
