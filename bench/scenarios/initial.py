"""Initial replication: a first copy of a disk with content as servers have it."""

from __future__ import annotations

import shutil
import statistics

from bench.content import Content, write_image
from bench.disk import LoopDisk, require_equal
from bench.limits import Stage, limit_bytes_per_second, slowest
from bench.ours import Replicating, Site
from bench.peers import FIRST_COPY
from bench.results import Row
from bench.scenarios.work import OURS, Work, cost_of_ours, cost_of_peer, medians, place_of, rotated, split
from bench.sizes import GIB, MIB
from bench.stages import measure
from bench.usage import Cost

MEGABYTE = 1_000_000
SLOWEST_BYTES_PER_SECOND = 10e6  # whoever is slower does not end in time


def run(work: Work) -> list[Row]:
    """Copy the disk by each contender, `repeats` times in turn, and return the rows."""
    image = work.folder / "initial.img"
    work.say("initial replication: making the disk")
    write_image(image, Content("initial"), work.size.disk_bytes)
    disk = LoopDisk(image)
    try:
        return _rows(work, disk)
    finally:
        disk.close()
        image.unlink()


def _rows(work: Work, disk: LoopDisk) -> list[Row]:
    peers = {peer.name: peer for peer in FIRST_COPY}
    costs: dict[str, list[Cost]] = {name: [] for name in (OURS, *peers)}
    limits: list[tuple[float, Stage]] = []
    for turn in range(work.size.repeats):
        disk.warm()
        limits.append(_limit(work, disk))
        for name in rotated(list(costs), turn):
            cost = _ours(work, disk) if name == OURS else _peer(work, disk, name)
            costs[name].append(cost)
            work.say(f"  {name}: {cost.seconds:.1f} s, {cost.cpu_seconds:.1f} CPU s")
    size = disk.size_bytes
    limit = statistics.median(limit for limit, _ in limits)
    alone = statistics.median(stage.bytes_per_second for _, stage in limits)
    speed, speeds = split(medians(costs, lambda cost: size / cost.seconds / MEGABYTE))
    cpu, cpus = split(medians(costs, lambda cost: cost.cpu_seconds / (size / GIB)))
    wire, wires = split(medians(costs, lambda cost: cost.wire_bytes / MIB))
    source, sources = split(medians(costs, lambda cost: cost.source_memory_bytes / MIB))
    target, targets = split(medians(costs, lambda cost: cost.target_memory_bytes / MIB))
    what = f"initial replication of {size / GIB:g} GiB"
    return [
        Row(f"{what}, `received`", "MB/s", "more", speed, speeds, limit / MEGABYTE),
        Row(f"{what}, against the slowest stage", "MB/s", "more", speed, {}, alone / MEGABYTE, limits[-1][1].name),
        Row(f"{what}, processor time of both sides", "CPU-s/GiB", "less", cpu, cpus),
        Row(f"{what}, bytes on the wire", "MiB", "less", wire, wires),
        Row(f"{what}, peak memory of the source's side", "MiB", "less", source, sources),
        Row(f"{what}, peak memory of the other side", "MiB", "less", target, targets),
    ]


def _ours(work: Work, disk: LoopDisk) -> Cost:
    ours = Replicating(work.folder / "ours", disk)
    try:
        return cost_of_ours(ours, disk.size_bytes / SLOWEST_BYTES_PER_SECOND + 120, lambda: ours.begun, 0.0)
    finally:
        ours.close()


def _peer(work: Work, disk: LoopDisk, name: str) -> Cost:
    peer = next(peer for peer in FIRST_COPY if peer.name == name)
    place = place_of(peer, disk, work.folder)
    try:
        cost = cost_of_peer(peer, place)
        require_equal(disk.image, place.target, name)
        return cost
    finally:
        shutil.rmtree(place.target.parent)


def _limit(work: Work, disk: LoopDisk) -> tuple[float, Stage]:
    """Return the limit in bytes per second, and the slowest stage."""
    site = Site(work.folder / "stages")
    try:
        stages = measure(disk, work.folder, site)
    finally:
        site.close()
        shutil.rmtree(work.folder / "stages")
        shutil.rmtree(work.folder / "stage-spool", ignore_errors=True)
    for stage in stages:
        rate, cpu = stage.bytes_per_second / MEGABYTE, stage.cpu_seconds_per_byte * GIB
        work.say(f"  alone: {stage.name}: {rate:.0f} MB/s, {cpu:.2f} CPU-s/GiB")
    return limit_bytes_per_second(stages, work.cores), slowest(stages)
