"""What the source's own work loses by being tracked: fio with tracking off and on, alternated in one run.

The disk lies in memory, so that the load is steady and the limit is the processor. "On" is the agent with its tracker
and no process server, so that tracking alone is measured.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.disk import LoopDisk, make_empty
from bench.ours import Agent, Site
from bench.results import Row
from bench.scenarios.work import Work
from bench.sizes import GIB
from bench.usage import cpu_seconds_of
from dr.errors import LifeboatError

STEADY_IOPS = 10_000
FIO = (
    "fio --name=load --filename={device} --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=16 "
    "--time_based --runtime={seconds} --norandommap --output-format=json {rate}"
)


@dataclass(frozen=True, slots=True)
class Load:
    """What fio reached, and what it cost: writes per second, processor seconds; the agent's, and its events."""

    iops: float
    writes: float
    fio_cpu_seconds: float
    agent_cpu_seconds: float = 0.0
    events: int = 0


def run(work: Work) -> list[Row]:
    """Return the rows of the steady load and of saturation."""
    if shutil.which("fio") is None:
        raise LifeboatError("fio is not installed", remedy="run `make bench`, which installs it")
    image = Path("/dev/shm") / f"lifeboat-bench-{work.folder.name}.img"
    make_empty(image, GIB)
    disk = LoopDisk(image)
    site = Site(work.folder / "impact")
    try:
        steady = _alternated(work, disk, site, f"--rate_iops={STEADY_IOPS}")
        full = _alternated(work, disk, site, "")
    finally:
        site.close()
        disk.close()
        image.unlink()
    return [*_rows(f"{STEADY_IOPS:,} IOPS", *steady), *_rows("saturation", *full)]


def _alternated(work: Work, disk: LoopDisk, site: Site, rate: str) -> tuple[list[Load], list[Load]]:
    off: list[Load] = []
    on: list[Load] = []
    _fio(work, disk, rate)  # the first load finds an image without pages
    for _ in range(work.size.fio_pairs):
        off.append(_fio(work, disk, rate))
        agent = Agent(work.folder / "impact-agent", disk, site, alone=True)
        try:
            agent.wait_until_tracking()
            events, cpu = agent.events, cpu_seconds_of(agent.process.pid)
            load = _fio(work, disk, rate)
            agent.wait_until_read()
            cpu = cpu_seconds_of(agent.process.pid) - cpu
            on.append(Load(load.iops, load.writes, load.fio_cpu_seconds, cpu, agent.events - events))
        finally:
            agent.close()
            shutil.rmtree(work.folder / "impact-agent")
        work.say(f"  fio {rate or 'at saturation'}: off {off[-1].iops:.0f}, on {on[-1].iops:.0f} IOPS")
    return off, on


def _fio(work: Work, disk: LoopDisk, rate: str) -> Load:
    command = FIO.format(device=disk.device, seconds=work.size.fio_seconds, rate=rate).split()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    job = json.loads(done.stdout)["jobs"][0]
    write, seconds = job["write"], job["job_runtime"] / 1000
    return Load(write["iops"], write["total_ios"], (job["usr_cpu"] + job["sys_cpu"]) / 100 * seconds)


def _rows(what: str, off: list[Load], on: list[Load]) -> list[Row]:
    # By pairs: what disturbs the machine for a while disturbs both of a pair.
    kept = statistics.median(100 * b.iops / a.iops for a, b in zip(off, on, strict=True))
    middle = [statistics.median(load.iops for load in loads) for loads in (off, on)]
    reached = f"off {middle[0]:.0f}, on {middle[1]:.0f} IOPS"
    agent = statistics.median(1e6 * load.agent_cpu_seconds / max(1, load.events) for load in on)
    return [
        Row(f"fio at {what}, IOPS with tracking on, of those with it off", "%", "more", kept, {}, 100.0, reached),
        Row(f"fio at {what}, the agent's processor time for each event", "µs", "less", agent),
    ]
