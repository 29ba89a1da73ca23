"""An action on the machine that runs the plan: real programs."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from dr.failover.steps.context import to_bytes
from dr.failover.steps.output import HEAD_BYTES, TAIL_BYTES
from dr.failover.steps.performing import Outcome
from dr.failover.steps.records import State
from dr.failover.steps.script import environment, script
from tests.failover.steps.test_output_and_context import CONTEXT


def run(folder: Path, text: str, *arguments: str, seconds: float = 10) -> Outcome:
    program = folder / "act.sh"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return script(["./act.sh", *arguments], lambda number: to_bytes(CONTEXT, number), folder, seconds)(3)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_it_runs_in_the_folder_and_is_told_the_context(tmp_path: Path) -> None:
    outcome = run(tmp_path, 'cat >told.json; echo "to $2"; echo well >&2', "--to", "azure & co")
    assert outcome == Outcome(State.DONE, "exit code 0: well", 0, "to azure & co\nwell\n")
    told = json.loads((tmp_path / "told.json").read_text())
    assert (told["attempt"], told["servers"][0]["point"]) == (3, "shop1-1-7")


def test_a_failure_says_its_last_line(tmp_path: Path) -> None:
    assert run(tmp_path, "echo 'no such zone'; exit 3") == Outcome(
        State.FAILED, "exit code 3: no such zone", 3, "no such zone\n"
    )
    assert run(tmp_path, "kill -9 $$").said == "ended by SIGKILL"
    assert run(tmp_path, "true").said == "exit code 0"
    missing = script(["./nothing"], lambda number: b"", tmp_path, 1)(1)
    assert missing == Outcome(State.FAILED, "./nothing cannot be started: No such file or directory")


def test_what_takes_too_long_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    begun = time.monotonic()
    outcome = run(tmp_path, "sleep 71.25 & echo $! >child; sleep 71.25", seconds=0.3)
    assert (outcome.state, outcome.said) == (State.FAILED, "it took longer than 0 s and was ended")
    assert time.monotonic() - begun < 6
    child = int((tmp_path / "child").read_text())
    while alive(child):  # a signal that was sent is not yet a process that has ended
        assert time.monotonic() - begun < 30, "its child lives"
        time.sleep(0.01)


def test_who_leaves_something_running_does_not_hold_the_run(tmp_path: Path) -> None:
    begun = time.monotonic()
    outcome = run(tmp_path, "sleep 8.125 & echo $! >child; echo done")
    assert (outcome.state, outcome.output) == (State.DONE, "done\n")
    assert time.monotonic() - begun < 6
    os.kill(int((tmp_path / "child").read_text()), 9)


def test_an_endless_output_is_bounded(tmp_path: Path) -> None:
    outcome = run(tmp_path, "echo first; yes | head -c 2000000; echo last; exit 1")
    assert outcome.output.startswith("first\ny\n")
    assert outcome.said == "exit code 1: last"
    assert outcome.output_left_out_bytes == 2000000 + len("first\nlast\n") - HEAD_BYTES - TAIL_BYTES


def test_what_opens_the_state_and_the_vault_does_not_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_KEY", "the key of the state")
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "break glass")
    assert set(run(tmp_path, "env").output.split()) & {"the", "break"} == set()
    assert environment({"PATH": "/bin", "LC_ALL": "C", "AZURE_CLIENT_ID": "x"}) == {"PATH": "/bin", "LC_ALL": "C"}
