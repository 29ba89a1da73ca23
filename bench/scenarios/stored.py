"""The whole way to `stored`, into an Azurite that is throttled to what Azure gives one page blob.

What the store does alone, written to by threads that do nothing else, is measured first and is the limit: Azurite may
be slower than its throttle.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.azurite import seconds_alone, throttled
from bench.content import Content, write_image
from bench.disk import LoopDisk
from bench.ours import Replicating
from bench.results import Row
from bench.scenarios.delta import COARSE, FINE
from bench.scenarios.work import Work
from bench.sizes import GIB, MIB
from dr.chunk import CHUNK_BYTES

MAX_REQUEST_BYTES = 4 << 20  # of one write of pages
BIG_REQUESTS, SMALL_REQUESTS = 32, 512
_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class Rates:
    """What a store does alone: in requests of 4 MiB, and in requests of one chunk."""

    bytes_per_second: float
    requests_per_second: float

    def __str__(self) -> str:
        return f"the store alone: {self.bytes_per_second / MIB:.0f} MiB/s, {self.requests_per_second:.0f} requests/s"


def run(work: Work) -> list[Row]:
    """Return the rows: a first replication, and both kinds of delta."""
    image = work.folder / "stored.img"
    work.say("stored: making the disk")
    filled = write_image(image, Content("stored"), work.size.stored_bytes)
    disk = LoopDisk(image)
    try:
        with throttled(work.folder / "azurite") as azurite:
            rates = Rates(
                BIG_REQUESTS * MAX_REQUEST_BYTES / seconds_alone(azurite, "big", BIG_REQUESTS, MAX_REQUEST_BYTES),
                SMALL_REQUESTS / seconds_alone(azurite, "small", SMALL_REQUESTS, CHUNK_BYTES),
            )
            work.say(f"  {rates}")
            ours = Replicating(work.folder / "ours", disk, azurite)
            try:
                return _rows(work, disk, ours, filled, rates)
            finally:
                ours.close()
    finally:
        disk.close()
        image.unlink()


def _rows(work: Work, disk: LoopDisk, ours: Replicating, filled: int, rates: Rates) -> list[Row]:
    received, stored = ours.wait_until_stored(_SECONDS)
    ours.require_equal()
    seconds = stored - ours.begun
    work.say(f"  {disk.size_bytes / GIB:g} GiB: received in {received - ours.begun:.1f} s, stored in {seconds:.1f} s")
    name = f"initial replication of {disk.size_bytes / GIB:g} GiB, `stored` in the throttled store"
    limit = filled / rates.bytes_per_second
    note = f"{filled / MIB:.0f} MiB of it are not zeros; {rates}"
    rows = [Row(name, "s", "less", seconds, {}, limit, note)]
    for total, length in ((work.size.coarse_bytes, COARSE), (work.size.fine_bytes, FINE)):
        places: set[int] = set()
        begun = disk.write(Content(f"stored {length}"), total, length, places)
        _, stored = ours.wait_until_stored(_SECONDS)
        ours.require_equal()
        chunks = {place // CHUNK_BYTES for place in places}
        name = f"delta of {total // MIB} MiB in random writes of {length // 1024} KiB, `stored` in the throttled store"
        note = f"{len(chunks)} chunks of 64 KiB in at least {requests_at_least(chunks)} requests"
        rows.append(Row(name, "s", "less", stored - begun, {}, seconds_at_least(chunks, rates), note))
        work.say(f"  {total // MIB} MiB in writes of {length // 1024} KiB: stored in {stored - begun:.1f} s")
    return rows


def requests_at_least(chunks: set[int]) -> int:
    """Return how many writes of pages store `chunks` at best: neighbours share one, up to its size."""
    requests = room = 0
    for chunk in sorted(chunks):
        if room == 0 or chunk - 1 not in chunks:
            requests, room = requests + 1, MAX_REQUEST_BYTES // CHUNK_BYTES
        room -= 1
    return requests


def seconds_at_least(chunks: set[int], rates: Rates) -> float:
    """Return how long a store of such rates needs for `chunks` at best."""
    by_bytes = len(chunks) * CHUNK_BYTES / rates.bytes_per_second
    return max(by_bytes, requests_at_least(chunks) / rates.requests_per_second)
