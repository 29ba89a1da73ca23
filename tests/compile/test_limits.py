"""Sizes of disks that Azure can't take, at their very edges."""

from __future__ import annotations

import pytest

from dr.compile.limits import wrong_with_disk

GIB, TIB = 1 << 30, 1 << 40


@pytest.mark.parametrize(
    ("most", "boots", "firmware"),
    [
        (2048 * GIB, True, "bios"),
        (4095 * GIB, True, "uefi"),
        (8 * TIB - (1 << 20), False, "bios"),
        (8 * TIB - (1 << 20), False, "uefi"),
        (8 * TIB - (1 << 20), True, None),
    ],
)
def test_the_largest_is_taken_and_one_sector_more_is_not(most: int, *, boots: bool, firmware: str | None) -> None:
    assert wrong_with_disk(most, boots=boots, firmware=firmware) is None
    assert wrong_with_disk(most + 512, boots=boots, firmware=firmware) is not None


def test_it_says_what_is_too_large_for_what() -> None:
    assert wrong_with_disk(3 * TIB, boots=True, firmware="bios") == (
        "has 3,072.0 GiB; a Gen1 VM (firmware bios) boots from at most 2,048 GiB"
    )
    assert wrong_with_disk(9 * TIB, boots=True, firmware="bios") == (
        "has 9,216.0 GiB; a page blob takes 8 TiB with its footer"
    )
