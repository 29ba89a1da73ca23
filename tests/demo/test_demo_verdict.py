"""What makes the demo fail, one figure at a time; the runs themselves are in `tests/end_to_end`."""

from __future__ import annotations

import pytest

from demo.__main__ import passed

GOOD = {"verified": True, "second_up_changes": 0, "left_behind": 0}


def test_all_good_figures_pass() -> None:
    assert passed(GOOD)


@pytest.mark.parametrize(
    "fault",
    [{"verified": False}, {"second_up_changes": 1}, {"left_behind": 1}],
    ids=["tampered", "second up changed something", "leaked"],
)
def test_each_bad_figure_alone_fails(fault: dict[str, object]) -> None:
    assert not passed(GOOD | fault)


def test_a_demo_that_broke_off_fails() -> None:
    assert not passed({"verified": False, "left_behind": 0})
