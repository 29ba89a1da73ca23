"""Where things lie outside the checkout. Pure: paths only, nothing is made.

    $LIFEBOAT_CACHE (default ~/.cache/lifeboat)
        uv-VERSION/bin/uv                               only where no uv is on PATH
        venv-HASH/                                      of requirements.lock; `.venv` in the checkout points to it
        pulumi-VERSION/bin/                             pulumi, its language host, and the host's two scripts
        azurite-VERSION/node_modules/.bin/azurite-blob
        agent-wheels/                                   lz4 for every Python and machine that the agent supports
        machines/                                       trees and disks of the test machines
        locks/                                          one lock per thing that is made

`dr` never imports this; it reads LIFEBOAT_CACHE itself and relies on these names.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LOCK = CHECKOUT / "requirements.lock"
PULUMI_VERSION = "3.259.0"
AZURITE_VERSION = "3.37.0"
UV_VERSION = "0.13.9"
# Only the bench needs it (bench/tools.py installs it).
BLOCKSYNC_LOCK = CHECKOUT / "bench" / "blocksync.lock"
BLOCKSYNC_VERSION = "3.0.1"


def file_hash(path: Path) -> str:
    """Return the first 16 hexadecimal digits of a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


@dataclass(frozen=True)
class Cache:
    """The folders below one root."""

    root: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Cache:
        """Return the cache that LIFEBOAT_CACHE names, or the default one."""
        values = os.environ if environment is None else environment
        return cls(Path(values.get("LIFEBOAT_CACHE") or Path.home() / ".cache" / "lifeboat").absolute())

    @property
    def locks(self) -> Path:
        return self.root / "locks"

    @property
    def uv(self) -> Path:
        return self.root / f"uv-{UV_VERSION}"

    @property
    def pulumi(self) -> Path:
        return self.root / f"pulumi-{PULUMI_VERSION}"

    @property
    def azurite(self) -> Path:
        return self.root / f"azurite-{AZURITE_VERSION}"

    @property
    def agent_wheels(self) -> Path:
        return self.root / "agent-wheels"

    @property
    def machines(self) -> Path:
        return self.root / "machines"

    def venv(self, lock: Path = LOCK) -> Path:
        return self.root / f"venv-{file_hash(lock)}"
