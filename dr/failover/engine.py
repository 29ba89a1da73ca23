"""The Pulumi CLI, as far as a run needs it: one stack of the project, its configuration, `up` with events.

Rules:
- The CLI runs in a session of its own: a Ctrl-C at the terminal reaches only us, and is passed on once. Pulumi then
  lets the running step finish and saves it.
- Everything is non-interactive, and the environment is handed in: which target it is, only that says.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dr.errors import PrerequisiteMissing, RunFailed

Event = Mapping[str, Any]
CALL_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an `up` ended; `changes` counts resources by operation ("create", "same", …)."""

    succeeded: bool
    interrupted: bool
    changes: Mapping[str, int]
    errors: tuple[str, ...]


# The engine's heading of a list with one entry.
_ONE_ERROR = re.compile(r"^1 error occurred:\s*\*\s*")


class Stack(Protocol):
    """One stack, as a run works on it; `Engine` is the real one."""

    @property
    def stack(self) -> str: ...

    def state(self) -> Mapping[str, Any] | None: ...

    def configured(self) -> Mapping[str, str]: ...

    def configure(self, values: Mapping[str, str]) -> None: ...

    def outputs(self) -> Mapping[str, Any]: ...

    def unlock(self) -> None: ...

    def clear_pending(self) -> None: ...

    def up(self, report: Callable[[Event], None]) -> Outcome: ...


class Engine:
    """One stack of the project in `checkout`, by the Pulumi CLI."""

    def __init__(self, checkout: Path, stack: str, environment: Mapping[str, str]) -> None:
        self.stack = stack
        self._checkout = checkout
        # The Python language host takes the first Python on PATH; ours has the packages of the programs.
        path = f"{Path(sys.executable).parent}{os.pathsep}{environment.get('PATH', os.defpath)}"
        self._environment = {**environment, "PATH": path, "PULUMI_SKIP_UPDATE_CHECK": "true", "NO_COLOR": "1"}
        found = shutil.which("pulumi", path=path)
        if found is None:
            raise PrerequisiteMissing("the Pulumi CLI is not on this machine", remedy="run `make setup`")
        self._pulumi = found

    def state(self) -> Mapping[str, Any] | None:
        """Return the stack's deployment, or None when there is no such stack."""
        if self.stack not in self.listed():
            return None
        deployment: Mapping[str, Any] = json.loads(self._call("stack", "export", "--stack", self.stack))["deployment"]
        return deployment

    def listed(self) -> list[str]:
        """Return the names of all stacks of the project that the backend holds, whatever the declaration says."""
        return [entry["name"].rpartition("/")[2] for entry in json.loads(self._call("stack", "ls", "--json"))]

    def configured(self) -> Mapping[str, str]:
        """Return the stack's configuration values; none is a secret."""
        listed = json.loads(self._call("config", "--json", "--stack", self.stack))
        return {name: str(entry.get("value", "")) for name, entry in listed.items()}

    def configure(self, values: Mapping[str, str]) -> None:
        """Set configuration values of the stack."""
        pairs = [argument for name, value in values.items() for argument in ("--plaintext", f"{name}={value}")]
        self._call("config", "set-all", "--stack", self.stack, *pairs)

    def outputs(self) -> Mapping[str, Any]:
        """Return the outputs of the last `up`."""
        outputs: Mapping[str, Any] = json.loads(self._call("stack", "output", "--json", "--stack", self.stack))
        return outputs

    def unlock(self) -> None:
        """Take away the lock of an engine that is dead."""
        self._call("cancel", "--yes", "--stack", self.stack)

    def clear_pending(self) -> None:
        """Drop what an interrupted run had begun to create from the state."""
        arguments = ("--yes", "--skip-preview", "--non-interactive", "--clear-pending-creates")
        self._call("refresh", *arguments, "--stack", self.stack, seconds=None)

    def up(self, report: Callable[[Event], None]) -> Outcome:
        """Make the stack so, telling every event of the engine as it comes."""
        return self._follow("up", report)

    def up_some(self, report: Callable[[Event], None], *options: str) -> Outcome:
        """As `up`, with further options of `pulumi up`."""
        return self._follow("up", report, *options)

    def preview(self, *options: str, import_file: Path) -> Mapping[str, Any]:
        """Return the steps that an `up` would take; what it would create is written to `import_file`. `RunFailed`."""
        arguments = ("--json", "--non-interactive", "--import-file", str(import_file), "--stack", self.stack)
        said = self._call("preview", *options, *arguments, seconds=None)
        document: Mapping[str, Any] = json.loads(said)
        return document

    def take_in(self, import_file: Path, *, protect: bool, report: Callable[[Event], None]) -> Outcome:
        """Import what the file names into the state; nothing in the cloud changes."""
        protection = f"--protect={str(protect).lower()}"
        return self._follow("import", report, "--file", str(import_file), protection, "--generate-code=false")

    def destroy(self, report: Callable[[Event], None]) -> Outcome:
        """Destroy what the stack holds, telling every event of the engine as it comes."""
        return self._follow("destroy", report)

    def _follow(self, word: str, report: Callable[[Event], None], *options: str) -> Outcome:
        usual = ("--yes", "--skip-preview", "--non-interactive", "--json", "--stack", self.stack)
        command = [self._pulumi, word, *usual, *options]
        with subprocess.Popen(
            command,
            cwd=self._checkout,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            trailing: list[bytes] = []
            reader = threading.Thread(target=lambda stream: trailing.append(stream.read()), args=(process.stderr,))
            reader.start()
            with _passing_on_interrupts(process) as interrupts:
                outcome = follow(process.stdout, report)
                code = process.wait()
            reader.join()
        errors = outcome.errors
        if code and not errors:
            errors = (b"".join(trailing).decode(errors="replace").strip() or f"pulumi ended with {code}",)
        return Outcome(code == 0, bool(interrupts), outcome.changes, errors)

    def _call(self, *arguments: str, seconds: float | None = CALL_SECONDS) -> str:
        done = subprocess.run(
            [self._pulumi, *arguments],
            cwd=self._checkout,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if done.returncode:
            what = (done.stderr or done.stdout).strip()
            raise RunFailed(
                f"`pulumi {arguments[0]} {arguments[1]}` of {self.stack} failed: {what}",
                code="engine-failed",
                remedy='see what Pulumi says above; `eval "$(dr env)"` sets its backend and login, docs/azure.md the '
                "roles. Then run the same command again",
            )
        return done.stdout


def follow(lines: Any, report: Callable[[Event], None]) -> Outcome:
    """Tell each event in `lines` and return what they amount to, not yet whether it succeeded."""
    changes: dict[str, int] = {}
    errors: list[str] = []
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # the CLI's own words between the events
        report(event)
        summary, diagnostic = event.get("summaryEvent"), event.get("diagnosticEvent")
        if summary:
            changes = summary.get("resourceChanges") or {}
        if diagnostic and diagnostic["severity"] == "error":
            errors.append(_ONE_ERROR.sub("", diagnostic["message"]).strip())
    return Outcome(False, False, changes, tuple(dict.fromkeys(errors)))


@contextmanager
def _passing_on_interrupts(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """While inside, pass Ctrl-C and SIGTERM to the engine as an interrupt; yield the list of those that came."""
    came: list[int] = []

    def pass_on(number: int, _: Any) -> None:
        came.append(number)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
