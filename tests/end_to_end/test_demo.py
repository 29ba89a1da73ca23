"""`python -m demo` is the main job on real machines; it must succeed, and must fail where it should."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from demo import inventory
from demo.stage import CHECKOUT

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1500)]

FIELDS = {
    "verified",
    "rpo_seconds",
    "rto_seconds",
    "disk_bytes",
    "sent_bytes",
    "second_up_changes",
    "left_behind",
}
LEFT_PROCESS = re.compile(r"left behind: process (\d+) (\S+) \(started ([\d.]+)\)")


@dataclass(frozen=True)
class Played:
    """How a demo ended: its exit code, its story, and the figures of its last line."""

    code: int
    story: str
    figures: dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where the demo makes its own folder; whatever it leaves running there is ended."""
    yield tmp_path
    for process in inventory.processes(tmp_path):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def play(folder: Path, **switches: str) -> Played:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PULUMI_", "LIFEBOAT_LO"))}
    done = subprocess.run(
        [sys.executable, "-m", "demo"],
        cwd=CHECKOUT,
        env={**variables, "TMPDIR": str(folder), **switches},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    print(done.stdout)
    *story, last = done.stdout.splitlines()
    return Played(done.returncode, "\n".join(story), json.loads(last))


def test_a_burnt_server_runs_again_from_the_vault(folder: Path) -> None:
    played = play(folder)
    assert set(played.figures) >= FIELDS
    assert played.figures["verified"] is True
    assert played.figures["second_up_changes"] == 0
    assert played.figures["left_behind"] == 0
    assert "error" not in played.figures
    assert 0 < played.figures["rpo_seconds"] < 300
    assert 0 < played.figures["rto_seconds"] < 900
    assert 0 < played.figures["sent_bytes"] < played.figures["disk_bytes"], "zeros are not sent"
    assert played.code == 0
    assert list(folder.iterdir()) == []


def test_one_changed_bit_and_one_running_machine_are_seen(folder: Path) -> None:
    """One run with both faults: each shows in its own figure, and `passed` fails on each figure alone (tests/demo)."""
    played = play(folder, TAMPER="1", LEAK="1")
    left = LEFT_PROCESS.findall(played.story)
    try:
        assert played.code != 0
        assert "error" not in played.figures
        assert played.figures["verified"] is False
        assert "TAMPER: one bit of the stored point was flipped" in played.story
        assert "DISKS DIFFER" in played.story
        assert played.figures["second_up_changes"] == 0
        assert played.figures["left_behind"] >= 1
        assert [name for _, name, _ in left] == ["qemu-system-x86_64"], "the one VM, and nothing else"
    finally:
        for pid, _, started in left:
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(pid))
                if abs(process.create_time() - float(started)) < 1:
                    process.kill()
                    process.wait(10)
    assert inventory.processes(folder) == []
