"""The mutants' patches keep up with the code: each applies, and each is proved by a proof."""

from __future__ import annotations

import subprocess

import pytest

from tests.agent.grouped import ABOUT as ABOUT_GROUPS
from tests.agent.protected import CHECKOUT
from tests.points.__main__ import ABOUT as ABOUT_POINTS
from tests.tracking.__main__ import ABOUT
from tests.tracking.mutants import MUTANTS

ALL = {*ABOUT, *ABOUT_POINTS, *ABOUT_GROUPS}


def test_each_patch_is_a_mutant() -> None:
    assert {patch.stem for patch in MUTANTS.iterdir()} == ALL


@pytest.mark.parametrize("name", sorted(ALL))
def test_each_patch_applies(name: str) -> None:
    command = ["patch", "-p1", "--fuzz=0", "--dry-run", "-i", str(MUTANTS / f"{name}.patch")]
    done = subprocess.run(command, cwd=CHECKOUT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
