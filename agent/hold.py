"""The agent's end of a holder (`holder.py`): starts it, hears it, and says what a cut under it may be called.

Rules kept here:
- Where systemd runs, the holder is a unit of its own (`systemd-run`): the agent's limits and its hardening are no place
  for somebody else's scripts, and an agent that is killed must not take them along.
- Nothing is believed but what the holder says after the thaw: only "ended" without a reason makes a point
  application-consistent.
- What is to be run goes through the pipe, never through a command line.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from contextlib import suppress
from typing import Any, Callable, Dict, List, Mapping, Optional

from agent import log
from agent.config import Config
from agent.reasons import Reason, from_dict, reason
from agent.scripts import end_group

COMMAND = "hold-applications"
SYSTEMD = "/run/systemd/system"
SLACK_SECONDS = 15.0  # a busy server takes long to start Python
SAID_BYTES = 1000


class Hold:
    """One holder; it mends what an earlier one left behind when `cut` is empty."""

    def __init__(self, config: Config, cut: str, wake: Callable[[], None]) -> None:
        self.names = [each.name for each in config.applications] if cut else []
        self._wake = wake
        self._seconds = SLACK_SECONDS + sum(each.timeout_seconds for each in config.applications)
        self._began = time.monotonic()
        self._said: List[bytes] = []
        self._answers: Dict[str, Mapping[str, Any]] = {}
        self._over = False
        self._failure: Optional[Reason] = None
        self._tag: Optional[Dict[str, Any]] = None
        self._unit = f"lifeboat-applications-{secrets.token_hex(6)}" if os.path.isdir(SYSTEMD) else ""
        order = {
            "server": config.server,
            "cut": cut,
            "run_folder": config.run_folder,
            "cache_folder": config.cache_folder,
            "applications": [each.as_dict() for each in config.applications],
        }
        self._process = self._start(json.dumps(order).encode() + b"\n")

    @property
    def preparing(self) -> bool:
        """Tell whether the pre scripts run; one that hangs in spite of its own time-outs is ended here."""
        if self._settled("prepared"):
            return False
        if time.monotonic() > self._began + 2 * self._seconds:  # post runs as well when a pre fails
            self._fail(f"the holder said nothing for {2 * self._seconds:.0f} s")
            self._end_holder()
        return not self._settled("prepared")

    @property
    def running_seconds(self) -> float:
        """Return how long ago it began."""
        return time.monotonic() - self._began

    @property
    def mended(self) -> bool:
        """Tell whether a holder that only mends is done."""
        return self._settled("ended")

    @property
    def failure(self) -> Optional[Reason]:
        """Return why the applications were not held; None while all is well."""
        if self._failure is not None:
            return self._failure
        for answer in self._answers.values():
            why = answer.get("reason")
            if isinstance(why, dict):
                return from_dict({key: str(why.get(key, "")) for key in ("code", "message", "remedy")})
        return None

    def end(self, meanwhile: Callable[[], object], unfrozen: Mapping[str, str]) -> Dict[str, Any]:
        """Let all post scripts run and wait for them, calling `meanwhile`; return what the cut is to be called.

        `unfrozen` are the file systems that were not frozen, with a word why. A repeated call returns the same.
        """
        if self._tag is None:
            self._tell()
            deadline = time.monotonic() + self._seconds
            while not self._settled("ended") and not self._refused and time.monotonic() < deadline:
                meanwhile()
                time.sleep(0.01)
            if not (self._settled("ended") or self._refused):
                self._fail(f"the post scripts did not end within {self._seconds:.0f} s")
                self._end_holder()
            if unfrozen and self.failure is None:
                names = ", ".join(f"{name} ({why})" for name, why in unfrozen.items())
                self._failure = reason("application-not-frozen", f"not every file system was frozen: {names}"[:2500])
            self._tag = self._tagged()
        return self._tag

    def leave(self) -> None:
        """Let the holder end by itself, because we do."""
        assert self._process.stdin is not None
        with suppress(OSError):  # it went first
            self._process.stdin.close()

    def _tagged(self) -> Dict[str, Any]:
        why = self.failure
        if why is None and "ended" in self._answers:
            return {"kind": "application-consistent", "applications": self.names, "warning": None}
        why = why or reason("application-unheld", "the holder ended without a word")
        return {"kind": "crash-consistent", "applications": [], "warning": dict(why.as_dict())}

    @property
    def _refused(self) -> bool:
        return self._answers.get("prepared", {}).get("prepared") is False

    def _settled(self, answer: str) -> bool:
        return self._over or answer in self._answers

    def _fail(self, message: str) -> None:
        self._failure = self._failure or reason("application-unheld", message)

    def _start(self, order: bytes) -> "subprocess.Popen[bytes]":
        program = [sys.executable, "-I", os.path.realpath(sys.argv[0])]
        if not sys.argv[0].endswith(".pyz"):
            program = [sys.executable, "-m", "agent"]  # a checkout
        process = subprocess.Popen(
            [*_outside(self._unit), *program, COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        threading.Thread(target=self._hear, args=(process,), name="hold", daemon=True).start()
        assert process.stdin is not None
        try:
            process.stdin.write(order)
            process.stdin.flush()
        except OSError:
            pass  # what it said tells why
        return process

    def _hear(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answer = _answer(line)
            if answer is None:
                self._said.append(line[:SAID_BYTES])
                del self._said[:-5]
                log.say(f"applications: {line[:SAID_BYTES].decode(errors='replace').rstrip()}")
            else:
                self._answers["prepared" if "prepared" in answer else "ended"] = answer
                self._wake()
        code = process.wait()
        if "ended" not in self._answers and not self._refused:
            said = " ".join(b" ".join(self._said).decode(errors="replace").split())[-SAID_BYTES:]
            self._fail(f"the holder of the applications ended (exit code {code}): {said or 'it said nothing'}")
        self._over = True
        self._wake()

    def _tell(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(b"end\n")
            self._process.stdin.flush()
        except (OSError, ValueError):
            pass  # it ended; what it said before tells why

    def _end_holder(self) -> None:
        """Kill a holder that hangs; what it began is mended by the next one."""
        if self._unit:
            kill = ["systemctl", "kill", "--signal=SIGKILL", f"{self._unit}.service"]
            subprocess.run(
                kill, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=SLACK_SECONDS
            )
        end_group(self._process)


def _outside(unit: str) -> List[str]:
    if not unit:
        return []
    words = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", f"--unit={unit}"]
    return [*words, "--description=Lifeboat: applications of a recovery point", "-p", "LimitCORE=0"]


def _answer(line: bytes) -> Optional[Dict[str, Any]]:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and ("prepared" in found or "ended" in found) else None
