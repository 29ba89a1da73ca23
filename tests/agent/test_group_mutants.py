"""What proves the counter of a group: each mutant must fail its test, by the numbers that it finds."""

from __future__ import annotations

import re

import pytest

from tests.agent.grouped import ABOUT
from tests.tracking.mutants import prove_mutant

COUNTER = "tests/agent/test_group.py::test_no_effect_is_without_its_cause_in_a_shared_point"


@pytest.mark.real
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", sorted(ABOUT))
def test_each_mutant_gives_an_effect_without_its_cause(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    code = prove_mutant(name, ["-m", "pytest", "--import-mode=importlib", "-p", "no:cacheprovider", COUNTER])
    said = capfd.readouterr().out
    found = re.search(r"^E +assert \[(\d+(?:, \d+)*)\] == \[0, 0, 0, 0\]$", said, re.MULTILINE)
    assert code == 1 and found, said[-3000:]
    assert sum(map(int, found[1].split(", "))) > 0
