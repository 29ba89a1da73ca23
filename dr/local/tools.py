"""Where `make setup` left the programs that the local target starts."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from dr.errors import PrerequisiteMissing
from dr.target.cache import cache


def checkout() -> Path:
    """Return the checkout that this `dr` runs from."""
    return Path(__file__).resolve().parents[2]


def azurite_command() -> str:
    """Return Azurite's blob server. `PrerequisiteMissing` when it is not installed."""
    return _newest("azurite-*/node_modules/.bin/azurite-blob", "Azurite")


def pulumi_folder(environment: Mapping[str, str] | None = None) -> Path | None:
    """Return the folder of the Pulumi CLI in the cache, or None when the one on PATH is meant."""
    found = _sorted(cache(environment), "pulumi-*/bin/pulumi")
    return found[-1].parent if found else None


def program(name: str) -> str:
    """Return the path of a program of the system. `PrerequisiteMissing` when it is not there."""
    found = shutil.which(name)
    if found is None:
        raise PrerequisiteMissing(f"{name} is not on this machine", remedy="run `make setup`")
    return found


def _newest(pattern: str, what: str) -> str:
    found = _sorted(cache(), pattern)
    if not found:
        raise PrerequisiteMissing(f"{what} is not installed in {cache()}", remedy="run `make setup`")
    return str(found[-1])


def _sorted(folder: Path, pattern: str) -> list[Path]:
    def version(path: Path) -> list[int]:
        top = path.relative_to(folder).parts[0]
        return [int(part) for part in top.rpartition("-")[2].split(".") if part.isdigit()]

    return sorted(folder.glob(pattern), key=version)
