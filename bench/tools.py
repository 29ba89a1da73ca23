"""What only the bench needs on this machine: the peers' Debian packages, and blocksync in an environment of its own.

By the set-up's own steps, and idempotent like them; `make setup` knows nothing of it.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from dr.errors import LifeboatError
from tools.setup.making import make_once
from tools.setup.packages import install_packages
from tools.setup.paths import BLOCKSYNC_LOCK, Cache, file_hash
from tools.setup.python_environment import find_uv, machine_settings
from tools.setup.step import Step, call, complain, run_all

# One line each on what needs it.
PACKAGES = (
    "nbdkit",  # serves the source to nbdcopy, with TLS
    "libnbd-bin",  # nbdcopy
    "fio",  # the load on the source
    "rsync",
    "lz4",
)


def blocksync_folder(cache: Cache) -> Path:
    """Return where blocksync's environment lies."""
    return cache.root / f"blocksync-{file_hash(BLOCKSYNC_LOCK)}"


def blocksync_python() -> Path:
    """Return the Python that has blocksync."""
    return blocksync_folder(Cache.from_environment()) / "bin" / "python"


def install_blocksync(cache: Cache) -> str:
    """Make blocksync's environment; return what was done."""

    def make(folder: Path) -> None:
        uv, environment = find_uv(cache), {**machine_settings(), "VIRTUAL_ENV": str(folder)}
        call([uv, "venv", "--quiet", "--python", sys.executable, folder], environment=environment)
        call([uv, "pip", "install", "--quiet", "--require-hashes", "-r", BLOCKSYNC_LOCK], environment=environment)

    return "installed blocksync" if make_once(blocksync_folder(cache), cache.locks, make) else ""


def main() -> int:
    """Install what is missing and return the exit code."""
    cache = Cache.from_environment()
    try:
        run_all(
            (
                Step("the peers' Debian packages", partial(install_packages, PACKAGES)),
                Step("blocksync", partial(install_blocksync, cache)),
            )
        )
    except LifeboatError as error:
        return complain(error)
    return 0


if __name__ == "__main__":
    sys.exit(main())
