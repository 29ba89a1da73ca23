"""Azurite, which plays Azure's blob storage on target local: `npm ci` from the lock in `azurite/`."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from dr.errors import PrerequisiteMissing
from tools.setup.making import make_once
from tools.setup.paths import Cache
from tools.setup.step import call

LOCKED = Path(__file__).resolve().parent / "azurite"
OLDEST_NODE = 20


def install_azurite(cache: Cache) -> str:
    """Install Azurite in the cache; return what was done."""
    return "installed by npm" if make_once(cache.azurite, cache.locks, _install, is_whole) else ""


def is_whole(folder: Path) -> bool:
    """Say whether the program is there."""
    return os.access(folder / "node_modules/.bin/azurite-blob", os.X_OK)


def _install(folder: Path) -> None:
    remedy = f"install Node {OLDEST_NODE} or newer with npm, and have it on PATH"
    if shutil.which("npm") is None or shutil.which("node") is None:
        raise PrerequisiteMissing("Node and npm are not installed", remedy=remedy)
    version = call(["node", "--version"]).strip()
    major = re.match(r"v(\d+)", version)
    if major is None or int(major[1]) < OLDEST_NODE:
        raise PrerequisiteMissing(f"Node {version} is too old", remedy=remedy)
    shutil.copytree(LOCKED, folder)
    # The lock has sums and no addresses, so npm asks the registry that this machine is configured for.
    call(["npm", "ci", *QUIET, "--prefer-offline"], cwd=folder)


QUIET = ("--no-audit", "--no-fund", "--no-update-notifier", "--ignore-scripts", "--omit-lockfile-registry-resolved")
