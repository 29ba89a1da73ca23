"""What is known of VM sizes: spot checks against Azure's pages, and nothing said of what is not known."""

from __future__ import annotations

import pytest

from dr.schema.vm_sizes import most_data_disks, wrong_with_size


@pytest.mark.parametrize(
    ("size", "most"),
    [
        ("A1_v2", 2),
        ("A8m_v2", 16),
        ("B1s", 2),
        ("B2ms", 4),
        ("B12ms", 16),
        ("B20ms", 32),
        ("B2ts_v2", 4),
        ("B32ls_v2", 32),
        ("DS1_v2", 4),
        ("DS5_v2", 64),
        ("F72s_v2", 32),
        ("D2s_v3", 4),
        ("D2s_v5", 4),
        ("D4as_v5", 8),
        ("D96s_v5", 32),
        ("E20s_v5", 32),
        ("E4-2s_v5", 8),
        ("D2as_v6", 4),
        ("D96as_v6", 32),
        ("D2s_v6", 8),
        ("E20s_v6", 48),
        ("E128s_v6", 64),
        ("D2s_v7", 10),
        ("D372s_v7", 64),
        ("E104is_v5", None),
        ("M64ls", None),
        ("NC4as_T4_v3", None),
        ("D2ps_v5", None),
    ],
)
def test_data_disks(size: str, most: int | None) -> None:
    assert most_data_disks(f"Standard_{size}") == most


@pytest.mark.parametrize(
    ("size", "firmware", "wrong"),
    [
        ("A2_v2", "uefi", True),
        ("A2_v2", "bios", False),
        ("D2s_v6", "bios", True),
        ("E4ads_v6", "bios", True),
        ("D2s_v6", "uefi", False),
        ("D2s_v5", "bios", False),
        ("D2s_v5", "uefi", False),
        ("D2ps_v5", "bios", True),
        ("X1_new", "bios", False),
        ("D2s_v6", None, False),
    ],
)
def test_generations(size: str, firmware: str | None, *, wrong: bool) -> None:
    assert (wrong_with_size(f"Standard_{size}", firmware) is not None) == wrong
