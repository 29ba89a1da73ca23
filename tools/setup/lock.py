"""`python3 -m tools.setup.lock`: write the locks again from what is declared. They hold sums and no addresses.

requirements.lock from pyproject.toml, uv.lock and bench/blocksync.lock from the versions in paths.py,
azurite/package-lock.json from azurite/package.json. The Go modules under `go/` pin themselves; after a change of a
version there, run `go build -mod=mod` as pulumi_cli.py does and keep the go.sum that it writes.
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

from dr.errors import LifeboatError
from tools.setup.azurite import LOCKED, QUIET
from tools.setup.paths import BLOCKSYNC_LOCK, BLOCKSYNC_VERSION, CHECKOUT, LOCK, UV_VERSION, Cache
from tools.setup.python_environment import UV_LOCK, find_uv, machine_settings
from tools.setup.step import StepFailed, call, complain

COMPILE = ("pip", "compile", "--quiet", "--generate-hashes", "--no-header", "--no-annotate", "--no-emit-index-url")
ADDRESS = re.compile(r'"resolved"|--(extra-)?index-url|--find-links|@ https?:')


def write_locks(cache: Cache) -> None:
    """Write all locks; `StepFailed` when one of them came out with an address."""
    uv, environment = find_uv(cache), machine_settings()
    python = ("--python-version", "3.11")
    project = (CHECKOUT / "pyproject.toml", "--group", f"{CHECKOUT}/pyproject.toml:dev")
    call([uv, *COMPILE, *python, *project, "--output-file", LOCK], environment=environment)
    with tempfile.TemporaryDirectory() as scratch:
        for pinned, lock in ((f"uv=={UV_VERSION}", UV_LOCK), (f"blocksync=={BLOCKSYNC_VERSION}", BLOCKSYNC_LOCK)):
            wanted = Path(scratch) / "wanted.in"
            wanted.write_text(f"{pinned}\n")
            call([uv, *COMPILE, *python, wanted, "--output-file", lock], environment=environment)
    call(["npm", "install", *QUIET, "--package-lock-only"], cwd=LOCKED)
    for lock in (LOCK, UV_LOCK, BLOCKSYNC_LOCK, LOCKED / "package-lock.json"):
        found = ADDRESS.search(lock.read_text())
        if found is not None:
            raise StepFailed(f"{lock} contains an address ({found[0]})")


def main() -> int:
    """Write the locks and return the exit code."""
    try:
        write_locks(Cache.from_environment())
    except LifeboatError as error:
        return complain(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
