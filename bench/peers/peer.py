"""What a person would use instead: one small file each, with its exact command line.

A command line is a template; `{names}` are filled in at the run and printed as they are in docs/benchmarks.md.
"""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.network import wait_for_port
from dr.errors import LifeboatError, PrerequisiteMissing

COMMAND_SECONDS = 3600


class PeerFailed(LifeboatError):
    """A peer's command did not end well."""

    code = "bench-peer-failed"
    remedy = "read what it said; no figure of this run is published"


@dataclass(frozen=True, slots=True)
class Place:
    """What a peer works with: the source's device and its image, the copy, and the folder of its keys."""

    device: str
    image: Path
    target: Path
    keys: Path
    port: int

    def names(self) -> dict[str, str]:
        """Return what a command line may name."""
        return {
            "device": self.device,
            "image": str(self.image),
            "target": str(self.target),
            "keys": str(self.keys),
            "port": str(self.port),
        }


class Peer(Protocol):
    """A program, or a few of them, that copies a disk to somewhere else."""

    @property
    def name(self) -> str: ...
    @property
    def encryption(self) -> str:
        """Return TLS, ssh or none."""

    @property
    def fsync(self) -> bool:
        """Tell whether its copy is on the disk when it ends."""

    @property
    def listens_at_source(self) -> bool:
        """Tell at which side its listener is."""

    @property
    def programs(self) -> tuple[str, ...]:
        """Return what must be on PATH."""

    @property
    def commands(self) -> tuple[str, ...]:
        """Return the command lines, as they are published."""

    def listening(self, place: Place) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """Start what listens, and end it."""

    def copy(self, place: Place) -> None:
        """Bring the copy to what the source is now; returning means done."""


def require(peers: tuple[Peer, ...]) -> None:
    """Raise `PrerequisiteMissing` unless every program of `peers` is there: a missing peer is never left out."""
    wanted = sorted({program for peer in peers for program in peer.programs})
    missing = [program for program in wanted if shutil.which(program) is None]
    if missing:
        raise PrerequisiteMissing(
            f"not installed: {', '.join(missing)}", remedy="run `make bench`, which installs them"
        )


def run(template: str, names: Mapping[str, str]) -> None:
    """Run a command line by bash, any part of a pipe may fail it. Raises `PeerFailed`."""
    command = template.format(**{name: shlex.quote(value) for name, value in names.items()})
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_SECONDS,
    )
    if done.returncode:
        raise PeerFailed(f"`{command}` ended with {done.returncode}: {done.stderr[-1000:]}")


@contextmanager
def daemon(template: str, names: Mapping[str, str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run what listens on `port`, in the foreground of a process of ours, so that its cost is counted when it ends."""
    command = [part.format(**names) for part in shlex.split(template)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
