"""`python -m tests.tracking --seconds N [--mutant NAME]`: run the proof and end with one JSON line.

Exit code 0: nothing was lost and only what was injected was a resync. 1: something was. 2: a mutant's patch does not
apply. With a mutant the proof runs in a temporary copy of this checkout that its patch has changed, and must fail.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.agent.protected import CHECKOUT
from tests.tracking.proof import Proof

MUTANTS = CHECKOUT / "tests" / "mutants"
COPIED = ("agent", "dr", "tests", "docs")
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
    return prove_mutant(chosen.mutant, chosen.seconds) if chosen.mutant else prove(chosen.seconds, chosen.first)


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


def prove_mutant(name: str, seconds: float) -> int:
    with tempfile.TemporaryDirectory(prefix="lifeboat-mutant-") as folder:
        for part in COPIED:
            shutil.copytree(CHECKOUT / part, Path(folder) / part, ignore=shutil.ignore_patterns("__pycache__"))
        patch = MUTANTS / f"{name}.patch"
        done = subprocess.run(
            ["patch", "-p1", "--fuzz=0", "-i", str(patch)], cwd=folder, check=False, capture_output=True, text=True
        )
        if done.returncode != 0:
            print(f"{patch} does not apply:\n{done.stdout}{done.stderr}", file=sys.stderr)
            return 2
        command = [sys.executable, "-m", "tests.tracking", "--seconds", str(seconds), "--first", ABOUT[name]]
        return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
