"""Deltas: random writes to a disk that was replicated before, in coarse and in fine writes.

Ours tracks while the writes are made, so its clock starts at the *first* write. Peers look for what changed when the
writes are over, so theirs starts when they do.
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

from bench.content import Content, write_image
from bench.disk import LoopDisk, require_equal
from bench.ours import Replicating
from bench.peers import DELTA
from bench.peers.peer import Peer
from bench.results import Row
from bench.scenarios.work import OURS, Work, cost_of_ours, cost_of_peer, medians, place_of, rotated, split
from bench.sizes import GIB, MIB
from bench.usage import Cost

COARSE, FINE = 64 << 10, 4 << 10
_SECONDS = 900.0


def run(work: Work) -> list[Row]:
    """Return the rows of both kinds of delta."""
    image = work.folder / "delta.img"
    work.say("deltas: making the disk")
    write_image(image, Content("delta"), work.size.disk_bytes)
    with Deltas(work, image, DELTA) as deltas:
        kinds = ((work.size.coarse_bytes, COARSE), (work.size.fine_bytes, FINE))
        return [row for total, length in kinds for row in _rows(deltas.measure(total, length), total, length)]


class Deltas:
    """A replicated disk, an equal copy for each peer, and deltas that each of them then brings over."""

    def __init__(
        self, work: Work, image: Path, peers: tuple[Peer, ...], *, direct: bool = False, repeats: int = 0
    ) -> None:
        self._work = work
        self._image, self._direct = image, direct
        self._repeats = repeats or work.size.delta_repeats
        self._peers = {peer.name: peer for peer in peers}
        self._content = Content("changes")

    def __enter__(self) -> Deltas:
        with ExitStack() as made:
            made.callback(self._image.unlink)
            self._disk = LoopDisk(self._image, direct=self._direct)
            made.callback(self._disk.close)
            self._places = {name: place_of(peer, self._disk, self._work.folder) for name, peer in self._peers.items()}
            for place in self._places.values():
                subprocess.run(["cp", "--sparse=always", str(self._image), str(place.target)], check=True)
                made.callback(shutil.rmtree, place.target.parent)
            self._ours = Replicating(self._work.folder / "ours", self._disk)
            made.callback(self._ours.close)
            self._ours.wait_until_stored(3 * _SECONDS)
            self._made = made.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._made.close()

    def measure(self, total_bytes: int, length: int) -> dict[str, list[Cost]]:
        """Write and bring over `repeats` times; return the costs of each contender."""
        costs: dict[str, list[Cost]] = {name: [] for name in (OURS, *self._peers)}
        for turn in range(self._repeats):
            # Ours replicates while it is written, so it has to come first.
            costs[OURS].append(self._cost_of_ours(total_bytes, length))
            for name in rotated(list(self._peers), turn):
                costs[name].append(cost_of_peer(self._peers[name], self._places[name]))
                require_equal(self._image, self._places[name].target, name)
            said = ", ".join(f"{name} {each[-1].seconds:.1f} s" for name, each in costs.items())
            self._work.say(f"  {total_bytes // MIB} MiB in writes of {length // 1024} KiB: {said}")
        return costs

    def _cost_of_ours(self, total_bytes: int, length: int) -> Cost:
        ours = self._ours

        def begin() -> float:
            return self._disk.write(self._content, total_bytes, length)

        return cost_of_ours(ours, _SECONDS, begin, ours.cpu_seconds)


def _rows(costs: dict[str, list[Cost]], total: int, length: int) -> list[Row]:
    what = f"delta of {total // MIB} MiB in random writes of {length // 1024} KiB"
    seconds, others = split(medians(costs, lambda cost: cost.seconds))
    cpu, cpus = split(medians(costs, lambda cost: cost.cpu_seconds / (total / GIB)))
    wire, wires = split(medians(costs, lambda cost: cost.wire_bytes / MIB))
    return [
        Row(f"{what}, from the first write to `received`", "s", "less", seconds, others),
        Row(f"{what}, processor time of both sides", "CPU-s/GiB written", "less", cpu, cpus),
        Row(f"{what}, bytes on the wire", "MiB", "less", wire, wires),
    ]
