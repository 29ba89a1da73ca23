"""lz4 for every Python and machine that the agent supports, as wheels, sums checked against requirements.lock.

The agent's package carries them. The folder's file `made-from` holds the lines of the lock that it was made from.
"""

from __future__ import annotations

from pathlib import Path

from tools.setup.making import make_once
from tools.setup.paths import CHECKOUT, LOCK, Cache
from tools.setup.step import call

LIBRARY = "lz4"
PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
MACHINES = ("x86_64", "aarch64")
# All that name the same thing: an old enough glibc (2.17 is RHEL 7's).
PLATFORMS = ("manylinux_2_17_{}", "manylinux2014_{}")


def install_agent_wheels(cache: Cache) -> str:
    """Fetch the wheels into the cache; return what was done."""
    wanted = locked_lines(LOCK.read_text(), LIBRARY)

    def is_whole(folder: Path) -> bool:
        made_from = folder / "made-from"
        return made_from.exists() and made_from.read_text() == wanted

    def make(folder: Path) -> None:
        folder.mkdir()
        requirement = folder / "requirement"
        requirement.write_text(wanted)
        for python in PYTHONS:
            for machine in MACHINES:
                _fetch(folder, requirement, python, machine)
        requirement.rename(folder / "made-from")

    made = make_once(cache.agent_wheels, cache.locks, make, is_whole)
    return f"fetched {len(PYTHONS) * len(MACHINES)} wheels" if made else ""


def locked_lines(lock: str, library: str) -> str:
    """Return the lines of a lock that pin one library and its sums."""
    lines = lock.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith(f"{library}=="))
    last = first
    while lines[last].endswith("\\"):
        last += 1
    return "\n".join(lines[first : last + 1]) + "\n"


def _fetch(folder: Path, requirement: Path, python: str, machine: str) -> None:
    command = [str(CHECKOUT / ".venv/bin/python"), "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:"]
    command += ["--require-hashes", "--implementation=cp", f"--python-version={python}"]
    command += [f"--abi=cp{python.replace('.', '')}", *(f"--platform={name.format(machine)}" for name in PLATFORMS)]
    call([*command, "--dest", str(folder), "-r", str(requirement)])
