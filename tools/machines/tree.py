"""A Debian file tree, built by mmdebstrap from the archive that this machine's own apt uses.

Kept as one archive per recipe and Debian (the folder `guest/` is the recipe). Packages that were fetched once are kept
beside, so that a changed recipe fetches only what is new. Needs root, for the owners of the files.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from dr.errors import PrerequisiteMissing
from tools.machines.recipe import DEBIAN, ENDED, GUEST, SUITES, tree_path
from tools.setup.making import make_once, remove
from tools.setup.paths import Cache

INDEX = "$(ORIGIN) $(REPO_URI) $(CODENAME) $(COMPONENT)"


def tree_archive(cache: Cache, debian: int = DEBIAN) -> Path:
    """Return the archive of a Debian's tree, building it first if this recipe has none."""
    archive = tree_path(cache, debian)
    make_once(archive, cache.locks, lambda making: _build(making, cache, SUITES[debian]))
    return archive


def _build(archive: Path, cache: Cache, suite: str) -> None:
    if os.geteuid() != 0:
        raise PrerequisiteMissing(
            "building a test machine needs root (owners of files)", remedy="run it as root once; the result is kept"
        )
    packages = cache.machines / f"packages-{suite}"
    packages.mkdir(parents=True, exist_ok=True)
    scratch = cache.machines / f".scratch-{suite}"  # a killed build leaves its tree here, not in /tmp
    remove(scratch)
    scratch.mkdir(mode=0o755)
    try:
        # The name must end in the compression's suffix for mmdebstrap to choose it.
        output = scratch / "tree.tar.zst"
        _mmdebstrap(output, suite, packages, scratch)
        output.rename(archive)
    finally:
        remove(scratch)


def _mmdebstrap(output: Path, suite: str, packages: Path, scratch: Path) -> None:
    archives = '"$1"/var/cache/apt/archives'
    command = ["mmdebstrap", "--variant=minbase", "--mode=root", "--format=tar", "--quiet"]
    command += ['--aptopt=Apt::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"']
    command += [f"--aptopt={option}" for option in _apt_options()]
    command += [
        f"--dpkgopt={GUEST / 'left-out'}",
        "--dpkgopt=force-unsafe-io",
        "--skip=download/empty",
        "--skip=essential/unlink",
    ]
    command += [
        f"--setup-hook=mkdir -p {archives}; cp '{packages}'/*.deb {archives}/ 2>/dev/null || true",
        f"--customize-hook=cp -n {archives}/*.deb '{packages}'/; rm -f {archives}/*.deb",
        f"--customize-hook=sh '{GUEST}/customize.sh' \"$1\" '{GUEST}'",
        '--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap',
        f"--include={','.join((GUEST / 'packages').read_text().split())}",
        suite,
        str(output),
        *_sources(suite),
    ]
    environment = {**os.environ, "TMPDIR": str(scratch), "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    subprocess.run(command, check=True, env=environment, stdin=subprocess.DEVNULL, stdout=sys.stderr)


def _sources(suite: str) -> list[str]:
    """Return the archive's lines for sources.list, as apt on this machine has them, for the wanted suite."""
    lines = _index_lines(suite)
    if not lines:
        subprocess.run(["apt-get", "-q", "update"], check=True, stdout=sys.stderr)
        lines = _index_lines(suite)
    if not lines:
        raise PrerequisiteMissing(
            "apt on this machine knows no Debian archive",
            remedy="add one to /etc/apt/sources.list, then `apt-get update`",
        )
    return lines


def _index_lines(suite: str) -> list[str]:
    text = subprocess.run(
        ["apt-get", "indextargets", "--format", INDEX, "Created-By: Packages"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found = set()
    for origin, uri, codename, component in (line.split() for line in text.splitlines() if len(line.split()) == 4):
        if origin == "Debian" and component == "main" and not (suite in ENDED and "security" in codename):
            found.add(f"deb {uri} {re.sub('^[a-z]+', suite, codename)} main")
    return sorted(found)


def _apt_options() -> list[str]:
    """Return this machine's own settings of how apt reaches an archive (proxies, dates), which a tree lacks."""
    text = subprocess.run(
        ["apt-config", "dump", "--format", '%f "%v";%n', "Acquire"], check=True, capture_output=True, text=True
    ).stdout
    return [line.rstrip(";") for line in text.splitlines() if re.match(r"Acquire::(https?::|Check-)", line)]
