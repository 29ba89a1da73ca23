"""`python -m tests.points --points N [--power-cuts M] [--mutant NAME]`: run the proof and end with one JSON line.

Exit code 0: every point is one instant and whole. 1: one is not. 2: a mutant's patch does not apply. With a mutant the
proof runs in a temporary copy of this checkout that its patch has changed, and must fail.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.points.proof import Proof
from tests.tracking.mutants import prove_mutant

# What each mutant breaks, and how much of the proof shows it: points, power cuts.
ABOUT = {
    "thawed-early": (40, 0),
    "cut-before-its-data": (40, 0),
    "received-before-sync": (0, 40),
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make prove-points", description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=300)
    parser.add_argument("--power-cuts", type=int, help="default: two for three points")
    parser.add_argument("--mutant", choices=sorted(ABOUT))
    chosen = parser.parse_args()
    if chosen.mutant:
        points, cuts = ABOUT[chosen.mutant]
        command = ["-m", "tests.points", "--points", str(points), "--power-cuts", str(cuts)]
        return prove_mutant(chosen.mutant, command)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was mounted is given back
    cuts = 2 * chosen.points // 3 if chosen.power_cuts is None else chosen.power_cuts
    return prove(chosen.points, cuts)


def prove(points: int, power_cuts: int) -> int:
    folder = Path(tempfile.mkdtemp(prefix="lifeboat-points-", dir="/dev/shm"))
    try:
        verdict = Proof(folder, points, power_cuts, lambda line: print(line, file=sys.stderr, flush=True)).run()
    finally:
        shutil.rmtree(folder)
    print(json.dumps(verdict.as_dict()), flush=True)
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())
