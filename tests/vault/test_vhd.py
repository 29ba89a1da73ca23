"""The fixed VHD's footer: our own reading of it, and QEMU's."""

from __future__ import annotations

import json
import struct
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dr.errors import Corrupt, Refused
from dr.vault import vhd

WHEN = datetime(2026, 5, 17, 9, 30, tzinfo=UTC)
MIB = 1 << 20


def footer(size: int) -> bytes:
    return vhd.build_footer(size, vhd.unique_id("shop1", "os"), WHEN)


@pytest.mark.parametrize("size", [512, MIB - 512, MIB, MIB + 512, 2 << 30, (5 << 40) + 1536])
def test_what_is_built_is_read(size: int) -> None:
    found = vhd.parse_footer(footer(size))
    assert found.size_bytes == vhd.padded_size(size) == -(-size // MIB) * MIB
    assert (found.timestamp, found.unique_id) == (WHEN, vhd.unique_id("shop1", "os"))
    assert vhd.blob_size(size) == found.size_bytes + 512


def test_fields_lie_where_the_specification_puts_them() -> None:
    data = footer(2 << 30)
    assert (data[:8], data[12:16], data[28:32]) == (b"conectix", b"\0\1\0\0", b"win ")
    assert struct.unpack_from(">QQ", data, 40) == (2 << 30, 2 << 30)
    assert struct.unpack_from(">HBB", data, 56) == vhd.geometry((2 << 30) // 512) == (4161, 16, 63)
    assert struct.unpack_from(">I", data, 60) == (2,)
    assert struct.unpack_from(">I", data, 64)[0] == ~(sum(data) - sum(data[64:68])) & 0xFFFFFFFF


@pytest.mark.parametrize("at", [0, 30, 48, 60, 64, 70, 500])
def test_any_changed_byte_is_noticed(at: int) -> None:
    data = bytearray(footer(MIB))
    data[at] ^= 1
    with pytest.raises(Corrupt):
        vhd.parse_footer(bytes(data))


def test_identity_depends_on_server_and_disk_only() -> None:
    assert vhd.unique_id("a", "os") == vhd.unique_id("a", "os")
    assert len({vhd.unique_id(s, d) for s in "ab" for d in "cd"}) == 4


def test_an_empty_disk_is_refused() -> None:
    with pytest.raises(Refused):
        footer(0)


@pytest.mark.real
@pytest.mark.parametrize("size", [MIB, 3 * MIB - 512, (2 << 30) + 512, 137 * MIB, (300 << 30) + 65536])
def test_qemu_agrees_about_the_size(tmp_path: Path, size: int) -> None:
    """QEMU by itself must not fall back to the rounded geometry."""
    image = tmp_path / "disk.vhd"
    with image.open("wb") as file:
        file.seek(vhd.padded_size(size))
        file.write(footer(size))
    for options in (
        f"driver=vpc,file.filename={image}",
        f"driver=vpc,force_size_calc=current_size,file.filename={image}",
    ):
        command = ["qemu-img", "info", "--output=json", "--image-opts", options]
        told = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
        assert told["format"] == "vpc"
        assert told["virtual-size"] == vhd.padded_size(size)
    check = ["qemu-img", "info", "--output=json", "-f", "vpc", str(image)]
    assert json.loads(subprocess.run(check, check=True, capture_output=True).stdout)["format"] == "vpc"
