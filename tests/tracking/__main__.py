"""`python -m tests.tracking --seconds N [--mutant NAME]`: run the proof and end with one JSON line.

Exit code 0: nothing was lost and only what was injected was a resync. 1: something was. 2: a mutant's patch does not
apply. With a mutant the proof runs in a temporary copy of this checkout that its patch has changed, and must fail.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from tests.tracking.mutants import prove_mutant
from tests.tracking.proof import Proof

# What each mutant breaks, so that its proof begins with the scenario that is about it.
ABOUT = {
    "issue-only": "slow_writes",
    "early-forget": "lost_with_its_spool",
    "bpf-only": "skipped_runs",
    "clear-first": "killed_at_the_slots",
    "stale-writer": "cut_off_and_back",
    "digest-first": "killed_between_digest_and_page",
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make prove-tracking", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--mutant", choices=sorted(ABOUT))
    parser.add_argument("--first", default="", help="the scenario to begin with")
    chosen = parser.parse_args()
    if chosen.mutant:
        command = ["-m", "tests.tracking", "--seconds", str(chosen.seconds), "--first", ABOUT[chosen.mutant]]
        return prove_mutant(chosen.mutant, command)
    return prove(chosen.seconds, chosen.first)


def prove(seconds: float, first: str) -> int:
    folder = Path(tempfile.mkdtemp(prefix="lifeboat-proof-", dir="/dev/shm"))
    proof = Proof(folder, seconds, lambda line: print(line, file=sys.stderr, flush=True), first)
    try:
        verdict = proof.run()
    finally:
        proof.close()
        shutil.rmtree(folder)
    print(json.dumps(verdict.as_dict()), flush=True)
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main())
