"""The proof in its short form, and what proves it: each mutant must fail, by what it does to the data."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.agent.protected import CHECKOUT
from tests.tracking.__main__ import ABOUT

pytestmark = [pytest.mark.real, pytest.mark.timeout(1200)]


def prove(*arguments: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "tests.tracking", "--seconds", "0", *arguments]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr[-3000:]
    verdict: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return done.returncode, verdict


def test_nothing_is_lost_and_only_what_was_injected_is_a_resync() -> None:
    code, verdict = prove()
    assert (code, verdict["failures"], verdict["chunks_lost"]) == (0, [], 0)
    assert verdict["resyncs"] == verdict["injected_resyncs"] == 2
    assert verdict["tracer_runs_skipped"] > 0, "the second program did not make the kernel skip ours"
    assert verdict["kills"] > 5 and verdict["takeovers"] == 2 and verdict["writes"] > 1000
    assert set(verdict["disks"]) >= {"raw", "partitions", "ext4", "xfs", "slow"}


@pytest.mark.parametrize("name", sorted(ABOUT))
def test_each_mutant_fails(name: str) -> None:
    code, verdict = prove("--mutant", name)
    assert code == 1, "the patch must apply, and its proof must fail"
    # The stale writer's harm is noticed and healed by a resync that nobody asked for; all others lose for good.
    harm = verdict["resyncs"] - verdict["injected_resyncs"] if name == "stale-writer" else verdict["chunks_lost"]
    assert harm > 0, verdict["failures"]
    assert not any(failure.startswith("not within") for failure in verdict["failures"])
