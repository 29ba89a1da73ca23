"""An action on the machine that runs the plan: a program in the declaration's folder.

Rules:
- The context is its standard input. Its environment is short on purpose: the one that `dr` and Pulumi run in holds what
  opens the state and the vault.
- It has a session of its own: a Ctrl-C at the terminal lets it finish. At its time-out it is ended with all it started.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from dr.failover.steps.output import Output, last_line
from dr.failover.steps.performing import Act, Outcome
from dr.failover.steps.records import State

PASSED_ON = frozenset({"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ", "TMPDIR"})
GRACE_SECONDS = 5.0  # between asking it to end and ending it
DRAIN_SECONDS = 1.0  # what it left running may hold its output open for ever


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return the part of an environment that a script gets."""
    return {name: value for name, value in given.items() if name in PASSED_ON or name.startswith("LC_")}


def script(words: Sequence[str], context: Callable[[int], bytes], folder: Path, timeout_seconds: float) -> Act:
    """Return the action: the program and its arguments, run in `folder`."""

    def act(number: int) -> Outcome:
        with tempfile.TemporaryFile() as told:
            told.write(context(number))
            told.seek(0)
            try:
                process = subprocess.Popen(
                    list(words),
                    cwd=folder,
                    env=environment(os.environ),
                    stdin=told,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                return Outcome(State.FAILED, f"{words[0]} cannot be started: {error.strerror}")
        return _follow(process, timeout_seconds)

    return act


def _follow(process: subprocess.Popen[bytes], timeout_seconds: float) -> Outcome:
    output, stream = Output(), process.stdout
    assert stream is not None
    reader = threading.Thread(target=_read, args=(stream.fileno(), output), daemon=True)
    reader.start()
    late = False
    try:
        process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        late = True
        _end(process)
    reader.join(DRAIN_SECONDS)
    if not reader.is_alive():
        stream.close()
    text, left_out = output.kept()
    if late:
        said = f"it took longer than {timeout_seconds:.0f} s and was ended"
        return Outcome(State.FAILED, said, None, text, left_out)
    code = process.returncode
    ended = f"exit code {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}"
    said = last_line(text)
    state = State.DONE if code == 0 else State.FAILED
    return Outcome(state, f"{ended}: {said}" if said else ended, code, text, left_out)


def _read(descriptor: int, output: Output) -> None:
    with suppress(OSError):
        while data := os.read(descriptor, 1 << 16):
            output.feed(data)


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
