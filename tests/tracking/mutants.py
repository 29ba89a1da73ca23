"""A proof in a temporary copy of this checkout that a mutant's patch has changed; `tests/mutants/NAME.patch`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.agent.protected import CHECKOUT

MUTANTS = CHECKOUT / "tests" / "mutants"
COPIED = ("agent", "dr", "tests", "docs")


def prove_mutant(name: str, arguments: list[str]) -> int:
    """Run Python with these arguments in the copy and return its exit code; 2 when the patch does not apply."""
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
        return subprocess.run([sys.executable, *arguments], cwd=folder, check=False).returncode
