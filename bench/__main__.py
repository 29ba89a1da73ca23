"""`python -m bench --size short|full`: run everything side by side and say what came out.

`full` writes `bench/results.json` and the generated part of `docs/benchmarks.md`; `short` and `--only` print alone.
Exit codes: 0 measured, whatever the figures are; 1 somebody's copy was wrong or a program failed; 4 something is
missing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bench import rendering, results
from bench.network import leave_the_machines_network
from bench.ours import CHECKOUT
from bench.peers import DELTA, FIRST_COPY
from bench.peers.peer import require
from bench.scenarios import delta, disk_size, impact, initial, stored
from bench.scenarios.work import Work
from bench.sizes import GIB, SIZES, Size
from bench.usage import busy_processors
from dr.errors import LifeboatError, PrerequisiteMissing

SCENARIOS = {
    "impact": impact.run,
    "initial": initial.run,
    "delta": delta.run,
    "disk-size": disk_size.run,
    "stored": stored.run,
}
RESULTS = CHECKOUT / "bench" / "results.json"
PAGE = CHECKOUT / "docs" / "benchmarks.md"
PEERS = (*FIRST_COPY, *DELTA)


def main() -> int:
    """Run the bench and return the exit code."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument(
        "--only", choices=SCENARIOS, action="append", help="this kind of work alone; nothing is written"
    )
    parser.add_argument("--repeats", type=int, help="how often each contender makes its first copy")
    parser.add_argument("--publish", action="store_true", help="write the figures of a short run too")
    parser.add_argument("--render", action="store_true", help="make the page again from the published figures")
    chosen = parser.parse_args()
    if chosen.render:
        _write_page(json.loads(RESULTS.read_text()))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # what was made is given back
    folder = Path(tempfile.mkdtemp(prefix="lifeboat-bench-"))
    try:
        size = SIZES[chosen.size]
        size = replace(size, repeats=max(1, chosen.repeats or size.repeats))
        rows = measure(folder, size, chosen.only or list(SCENARIOS))
    except LifeboatError as error:
        print(f"bench: {error.message}\n    remedy: {error.remedy}", file=sys.stderr)
        return error.exit_code
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if not chosen.only and (chosen.size == "full" or chosen.publish):
        RESULTS.write_text(results.to_json(rows))
        _write_page(rows)
    else:
        print(rendering.generated(rows, PEERS))
    return 0


def measure(folder: Path, size: Size, scenarios: list[str]) -> list[dict[str, object]]:
    """Run the scenarios and return the document of their rows."""
    if os.geteuid() != 0:
        raise PrerequisiteMissing("the bench makes disks and a network of its own", remedy="run it as root")
    require(PEERS)
    leave_the_machines_network()
    begun, busy = time.monotonic(), busy_processors()

    def say(what: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {what}", flush=True)

    cores = len(os.sched_getaffinity(0))
    work = Work(folder, size, cores, say)
    rows = [row for name in scenarios for row in SCENARIOS[name](work)]
    run = results.Run(
        size.name,
        f"{datetime.now(UTC):%Y-%m-%d}",
        cores,
        _processor(),
        round(psutil.virtual_memory().total / GIB),
        platform.release().partition("-")[0],
        platform.python_version(),
        work.size.repeats,
        work.size.delta_repeats,
        round(busy(), 2),
    )
    return results.document(rows, run)


def _write_page(rows: list[dict[str, object]]) -> None:
    PAGE.write_text(rendering.replaced(PAGE.read_text(), rendering.generated(rows, PEERS)))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
