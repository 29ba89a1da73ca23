"""One step of the set-up: what it is called, whether it is done, and how it is done."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dr.errors import LifeboatError


@dataclass(frozen=True)
class Step:
    """`do` returns what it did, in a few words, or an empty text when there was nothing to do."""

    name: str
    do: Callable[[], str]


class StepFailed(LifeboatError):
    """A program that the set-up called did not end well; what it said is in the message."""

    code = "setup-failed"
    remedy = "remove the cause named above and run `make setup` again; it goes on where it stopped"


def run_all(steps: Sequence[Step]) -> None:
    """Run the steps in order and say for each what was done and how long it took."""
    for step in steps:
        print(f"{step.name:<28} ", end="", flush=True)
        begun = time.monotonic()
        try:
            did = step.do()
        except BaseException:
            print("failed", flush=True)
            raise
        print(f"{did or 'ok, already there'} ({_duration(time.monotonic() - begun)})", flush=True)


def call(
    command: Sequence[str | Path], *, cwd: Path | None = None, environment: Mapping[str, str] | None = None
) -> str:
    """Run a program and return its stdout; `StepFailed` with the end of its output when it fails."""
    result = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=dict(environment) if environment is not None else None,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        said = f"{result.stdout[-2000:]}{result.stderr[-4000:]}".strip()
        raise StepFailed(f"`{' '.join(map(str, command))}` ended with {result.returncode}:\n{said}")
    return result.stdout


def complain(error: LifeboatError) -> int:
    """Print an error as one line and its remedy; return the exit code."""
    print(f"setup: {error.message}", file=sys.stderr)
    if error.remedy:
        print(f"  {error.remedy}", file=sys.stderr)
    return error.exit_code


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
