"""What is on this machine, seen without any help of Lifeboat: processes, mounts, files.

The inventory is taken before the demo and after its cleaning up; the difference is what was left behind. A process
belongs to the demo when its command line, working folder, environment or an open file names the demo's folder, and
what the project's tests make beside it bears their own names, so that other work on the same machine is not counted.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

WATCHED = (Path("/tmp"), Path("/var/tmp"), Path("/run"), Path("/dev/shm"), Path("/sys/kernel/tracing/instances"))  # noqa: S108


@dataclass(frozen=True, slots=True)
class Inventory:
    processes: frozenset[str]
    mounts: frozenset[str]
    files: frozenset[str]

    def missing_from(self, earlier: Inventory) -> tuple[str, ...]:
        """Return what is here and was not in `earlier`, as readable lines."""
        return (
            *(f"process {p}" for p in sorted(self.processes - earlier.processes)),
            *(f"mount {m}" for m in sorted(self.mounts - earlier.mounts)),
            *(f"file {f}" for f in sorted(self.files - earlier.files)),
        )


def take(folder: Path, checkout: Path) -> Inventory:
    """Take the inventory of a demo that works in `folder` and was started from `checkout`."""
    return Inventory(
        processes=frozenset(filter(None, map(_describe, processes(folder)))),
        mounts=frozenset(_mounts(str(folder))),
        files=frozenset((*_files(folder), *_checkout_files(checkout))),
    )


def _mounts(folder: str) -> list[str]:
    """Mounts on, in or of the demo's folder; others come and go with other work on this machine."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split()[4] for line in lines if folder in line]


def _of_others(path: str) -> bool:
    """What bears the name of a test or of a demo is not ours; our own folder is looked at by itself."""
    return "lifeboat-test-" in path or "lifeboat-demo-" in path


def processes(folder: Path) -> list[psutil.Process]:
    """Return every process but this one and its parents that has to do with `folder`."""
    mine = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        if process.pid in mine:
            continue
        try:
            traces = [*process.cmdline(), process.cwd(), *process.environ().values()]
            traces += [f.path for f in process.open_files()]
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if any(str(folder) in text for text in traces):
            found.append(process)
    return found


def _describe(process: psutil.Process) -> str | None:
    with suppress(psutil.NoSuchProcess):
        return f"{process.pid} {process.name()} (started {process.create_time():.2f})"
    return None


def _files(folder: Path) -> list[str]:
    """The demo's folder itself, and anything of ours in the places where programs leave things."""
    found = [str(folder)] if folder.exists() else []
    for place in WATCHED:
        if place.is_dir():
            found += [
                str(p) for p in place.iterdir() if "lifeboat" in p.name and p != folder and not _of_others(str(p))
            ]
    return found


def _checkout_files(checkout: Path) -> list[str]:
    """Files at the top of the checkout, where a careless tool drops its own; what git ignores is other tools' cache."""
    found = [str(p) for p in checkout.iterdir()]
    names = subprocess.run(
        ["git", "check-ignore", "--stdin"],
        cwd=checkout,
        input="\n".join(found),
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    return sorted({*found} - {*names})
