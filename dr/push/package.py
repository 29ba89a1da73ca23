"""Builds the agent's package: one reproducible `.pyz` with the agent, what it shares with us, and lz4.

    __main__.py                     starts `agent.main`
    agent/…  dr/__init__.py  dr/chunk.py  dr/errors.py  dr/undumpable.py  dr/journal/…
    wheels/cpXY-MACHINE/lz4/…       lz4's block module for each Python and machine; `agent/native.py` unpacks one

The same inputs give the same bytes: sorted names, one fixed time, fixed modes, no compiled Python. Reads `agent/` as
files and never imports it.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from dr.durable import write_durably
from dr.errors import PrerequisiteMissing
from dr.target.cache import cache

CHECKOUT = Path(__file__).resolve().parents[2]
PYTHONS = ("cp39", "cp310", "cp311", "cp312", "cp313")
MACHINES = ("x86_64", "aarch64")
SHEBANG = b"#!/usr/bin/env python3\n"
WHEEL = re.compile(r"lz4-[0-9.]+-(cp\d+)-cp\d+-.*?manylinux[0-9_]*_(x86_64|aarch64)\.whl")
FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # the oldest that a zip file can say

MAIN = b'''"""Starts the Mobility agent."""

import sys

if sys.version_info < (3, 9):
    sys.exit("lifeboat-agent: Python 3.9 or newer is needed")

from agent.main import main

sys.exit(main())
'''


def wheels_folder() -> Path:
    """Return where the set-up keeps lz4's wheels."""
    return cache() / "agent-wheels"


def current_package() -> Path:
    """Return the package of this checkout's agent from the cache, where it is built when its sources are new.

    Packing takes seconds and each preview asks, so the file is named by a hash of what goes into it. Raises
    `PrerequisiteMissing` when a wheel is not in the cache.
    """
    sources = hashlib.sha256()
    wheels = [(path.name, path.read_bytes()) for path in sorted(wheels_folder().glob("*.whl"))]
    for name, content in [*_sources(CHECKOUT), *wheels]:
        sources.update(f"{name} {len(content)}\n".encode() + content)
    output = cache() / "agent-packages" / f"lifeboat-agent-{sources.hexdigest()[:32]}.pyz"
    if not output.is_file():
        build_package(output)
    return output


def build_package(output: Path) -> str:
    """Write the package to `output` and return its SHA-256; a file that is right already is left alone.

    Raises `PrerequisiteMissing` when a wheel is not in the cache.
    """
    content = SHEBANG + _zipped(dict([*_sources(CHECKOUT), *_libraries(wheels_folder())]))
    if not output.is_file() or output.read_bytes() != content:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_durably(output, content, mode=0o644)
    return hashlib.sha256(content).hexdigest()


def _sources(checkout: Path) -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", MAIN
    for name in ("__init__", "chunk", "errors", "undumpable"):
        yield f"dr/{name}.py", (checkout / f"dr/{name}.py").read_bytes()
    for folder in ("agent", "dr/journal"):
        for path in sorted((checkout / folder).glob("*.py")):
            if path.name != "__main__.py":
                yield path.relative_to(checkout).as_posix(), path.read_bytes()


def _libraries(folder: Path) -> Iterator[tuple[str, bytes]]:
    wheels = {match.groups(): path for path in folder.glob("*.whl") if (match := WHEEL.fullmatch(path.name))}
    missing = [f"{python}-{machine}" for python in PYTHONS for machine in MACHINES if (python, machine) not in wheels]
    if missing:
        raise PrerequisiteMissing(
            f"lz4 for {', '.join(missing)} is not in {folder}", remedy="run `make setup`", code="wheels-missing"
        )
    for python in PYTHONS:
        for machine in MACHINES:
            with zipfile.ZipFile(wheels[python, machine]) as wheel:
                for name in wheel.namelist():
                    if re.fullmatch(r"lz4/[^/]+\.(py|so)|lz4/block/[^/]+\.(py|so)", name):
                        yield f"wheels/{python}-{machine}/{name}", wheel.read(name)


def _zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(files):
            facts = zipfile.ZipInfo(name, FIXED_TIME)
            facts.compress_type = zipfile.ZIP_DEFLATED
            facts.external_attr = 0o644 << 16
            facts.create_system = 3  # Unix, whatever builds it
            archive.writestr(facts, files[name], compresslevel=6)
    return buffer.getvalue()
