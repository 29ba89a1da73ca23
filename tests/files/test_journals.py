"""File systems as a kernel leaves them: journals replayed against e2fsck's own replay, XFS, LVM over two disks."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import pytest
from dissect.extfs import ExtFS

from dr.files.journal import replayed
from dr.files.opened import open_point, warnings
from dr.files.volumes import NOT_REPLAYED
from dr.files.writing import Writer
from tests.files.images import MIB, mounted, point_of, small_tree

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


@pytest.mark.parametrize(
    "options",
    [
        ("-b", "4096"),
        ("-b", "1024"),
        ("-b", "4096", "-O", "^64bit,^metadata_csum"),
        ("-b", "1024", "-O", "^metadata_csum"),
        ("-t", "ext3", "-b", "4096"),
    ],
    ids=["4k", "1k", "4k-32bit", "1k-nocsum", "ext3"],
)
def test_a_dirty_journal_is_replayed_as_e2fsck_does_it(tmp_path: Path, options: tuple[str, ...]) -> None:
    image, copy = tmp_path / "image", tmp_path / "copy"
    with image.open("wb") as file:
        file.truncate(64 * MIB)
    subprocess.run(["mkfs.ext4", "-q", "-F", *options, str(image)], check=True)
    with mounted(image, tmp_path / "mnt", "commit=60") as point:
        small_tree(point / "server")
        for number in range(50):
            (point / f"gone{number}").write_bytes(os.urandom(3000))
        sync(point)
        for number in range(50):  # their blocks are revoked, and used again as content
            (point / f"gone{number}").unlink()
        (point / "escaped").write_bytes(bytes.fromhex("c03b3998") * 1024)
        (point / "last").write_text("committed\n")
        sync(point)
        shutil.copyfile(image, copy)  # the journal is committed, and nothing is written back
    raw = copy.read_bytes()
    blocks = blocks_of(copy)
    assert blocks, "the copy has to be dirty, or this proves nothing"

    oracle = tmp_path / "oracle"
    shutil.copyfile(copy, oracle)
    subprocess.run(["e2fsck", "-E", "journal_only", "-y", str(oracle)], check=False, capture_output=True)
    assert blocks_of(oracle) == {}
    size = block_size(copy)
    ours = bytearray(raw)
    for block, content in blocks.items():
        ours[block * size : (block + 1) * size] = content
    theirs = oracle.read_bytes()
    differing = {at // size for at in range(0, len(raw), size) if ours[at : at + size] != theirs[at : at + size]}
    assert differing <= {0, 1, *journal_blocks(copy)}, "but for superblock and journal, which it marks as clean"

    opened = open_point(*point_of({"os": raw}))
    tree, place = opened.find("os:/last")
    assert place.node.open().read() == b"committed\n"
    assert warnings(tree) == []
    assert not {each.name for each in tree.children(tree.find("/")) if each.name.startswith("gone")}


def sync(point: Path) -> None:
    descriptor = os.open(point, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
    for path in point.iterdir():
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def blocks_of(image: Path) -> dict[int, bytes]:
    with image.open("rb") as file:
        found = ExtFS(file)
        return dict(replayed(cast("BinaryIO", found.journal.fh), found.block_size))


def block_size(image: Path) -> int:
    with image.open("rb") as file:
        return int(ExtFS(file).block_size)


def journal_blocks(image: Path) -> set[int]:
    with image.open("rb") as file:
        found = ExtFS(file)
        runs = found.get_inode(found.sb.s_journal_inum).dataruns()
        return {start + n for start, count in runs if start is not None for n in range(count)}


def test_xfs_with_unwritten_extents_long_directories_and_links(tmp_path: Path) -> None:
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(320 * MIB)
    subprocess.run(["mkfs.xfs", "-q", "-f", str(image)], check=True)
    with image.open("r+b") as file:  # what an unwritten extent would show, if it were read
        file.seek(MIB)
    with mounted(image, tmp_path / "mnt") as point:
        content = small_tree(point / "server")
        (point / "stale").write_bytes(b"secret" * (MIB // 6))
        sync(point)
        (point / "stale").unlink()
        subprocess.run(["fallocate", "-l", str(2 * MIB), str(point / "unwritten")], check=True)
        (point / "many").mkdir()
        for number in range(3000):
            (point / f"many/{number:05d}-{'x' * 40}").write_bytes(b"")
        (point / "longlink").symlink_to("d/" * 450 + "end")
        with (point / "sparse").open("wb") as file:
            for at in range(0, 64):
                file.seek(at * 3 * 4096)
                file.write(bytes([at + 1]) * 4096)
        big = (content / "srv/deep/er/big").read_bytes()
        sparse = (point / "sparse").read_bytes()
    store, manifest = point_of({"os": image.read_bytes()})
    opened = open_point(store, manifest)
    tree, place = opened.find("os:/server/srv/deep/er/big")
    assert place.node.open().read() == big
    assert tree.find("/unwritten").node.open().read() == bytes(2 * MIB)
    assert tree.find("/sparse").node.open().read() == sparse
    names = {each.name for each in tree.children(tree.find("/many"))}
    assert len(names) == 3000
    assert dict(tree.find("/").node.children())["longlink"].link() == "d/" * 450 + "end"
    assert warnings(tree) == []
    writer = Writer(tree, overwrite=False)
    writer.write(tree.find("/server"), tmp_path / "out")
    assert (tmp_path / "out/etc/hostname").read_text() == "shop1\n"

    loose = open_point(*point_of({"os": image.read_bytes()}, frozen=[]))
    (warned,) = loose.volumes[0].warnings
    assert warned.code == NOT_REPLAYED


def test_a_logical_volume_over_two_disks(tmp_path: Path) -> None:
    with volume_group(tmp_path) as (disks, segments):
        image = tmp_path / "fs"
        with image.open("wb") as file:
            file.truncate(sum(length for _, _, length in segments))
        content = small_tree(tmp_path / "content", "/dev/mapper/shop-root / ext4 defaults 0 1\n")
        subprocess.run(["mkfs.ext4", "-q", "-F", "-d", str(content), str(image)], check=True)
        with image.open("rb") as file:
            for disk, at, length in segments:
                with disks[disk].open("r+b") as device:
                    device.seek(at)
                    shutil.copyfileobj(_limited(file, length), device)
        assert len({disk for disk, _, _ in segments}) == 2
        held = {name: path.read_bytes() for name, path in disks.items()}
    opened = open_point(*point_of(held))
    assert [volume.name for volume in opened.volumes] == ["shop/root"]
    tree, place = opened.find("/srv/deep/er/big")
    assert place.node.open().read() == (content / "srv/deep/er/big").read_bytes()
    assert warnings(tree) == []
    store, manifest = point_of({"a": held["a"]})
    (half,) = open_point(store, manifest).volumes
    assert half.root is None
    assert half.problem, "a volume of which a disk is missing is named, not read as zeros"


def _limited(file: BinaryIO, length: int) -> BinaryIO:
    import io

    return io.BytesIO(file.read(length))


@contextmanager
def volume_group(folder: Path) -> Iterator[tuple[dict[str, Path], list[tuple[str, int, int]]]]:
    """Make a volume group `shop` of two disks, with `root` over both; yield the disks, and (disk, offset, length)."""
    disks = {name: folder / name for name in ("a", "b")}
    devices: dict[str, str] = {}
    try:
        for name, path in disks.items():
            with path.open("wb") as file:
                file.truncate(40 * MIB)
            losetup = ["losetup", "--find", "--show", str(path)]
            devices[name] = subprocess.run(losetup, check=True, capture_output=True, text=True).stdout.strip()
        rule = 'devices {{ filter=[{}, "r|.*|"] use_devicesfile=0 scan="/dev" }}'.format(
            ", ".join(f'"a|^{device}$|"' for device in devices.values())
        )

        def lvm(*words: str) -> str:
            command = [words[0], "--config", rule, *words[1:]]
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout

        lvm("vgcreate", "-qq", "shop", *devices.values())
        made = ("--driverloaded", "n", "-an", "-Zn", "-Wn")
        lvm("lvcreate", *made, "-l", "100%FREE", "-n", "root", "shop")
        said = lvm(
            "lvs",
            "--driverloaded",
            "n",
            "--noheadings",
            "--nosuffix",
            "--units",
            "b",
            "--segments",
            "--separator",
            ";",
            "-o",
            "seg_pe_ranges,vg_extent_size",
            "shop/root",
        )
        starts = {device: name for name, device in devices.items()}
        begins = {
            device: int(lvm("pvs", "--noheadings", "--nosuffix", "--units", "b", "-o", "pe_start", device))
            for device in devices.values()
        }
        segments = []
        for line in said.split():
            ranges, extent = line.split(";")
            device, span = ranges.rsplit(":", 1)
            first, last = map(int, span.split("-"))
            at = begins[device] + first * int(extent)
            segments.append((starts[device], at, (last - first + 1) * int(extent)))
        yield disks, segments
    finally:
        for device in devices.values():
            subprocess.run(["losetup", "-d", device], check=False)
