"""The agent where the server works against it: full folders, disks that change their size, ended watchdogs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.chunk_map import UNREAD, map_file
from agent.filesystems import FileSystem, Mount, devices_of, parse_mountinfo
from agent.freezer import Freezer
from agent.link import counter
from agent.state import Positions
from tests.agent.protected import CHUNK, MIB, LoopDisk, Protected, wait_for
from tests.agent.whole_site import SERVER, Site

LINE = "36 35 8:1 / {} rw,relatime - ext4 /dev/sda1 rw"


def test_no_name_of_a_mount_point_hides_the_next_mount() -> None:
    text = "\n".join((LINE.format("/a\x0cb\u2028c\x85d shared:1 1:x y z"), LINE.format("/data"), ""))
    assert [mount.mount_point for mount in parse_mountinfo(text)][-1] == "/data"
    assert len(parse_mountinfo(text)) == 2


def test_a_user_cannot_pass_his_fuse_mount_off_as_a_disk(tmp_path: Path) -> None:
    assert devices_of(Mount((0, 55), str(tmp_path), "fuse.sshfs", "/dev/sda1", False)) == set()
    assert devices_of(Mount((8, 1), "/", "ext4", "/dev/sda1", False)) == {(8, 1)}


def test_a_damaged_map_is_not_taken_for_a_clean_one(tmp_path: Path) -> None:
    path = tmp_path / "os.map"
    map_file(str(path), 4 * CHUNK, create=True).take(UNREAD, 0, 1)
    assert map_file(str(path), 4 * CHUNK, create=False).sound
    path.write_bytes(b"\x00\x01\x05\x00")
    with pytest.raises(ValueError):
        map_file(str(path), 4 * CHUNK, create=False)


@pytest.mark.parametrize("value", [float("inf"), -1, 1 << 63, "7", None, [1]])
def test_a_hostile_answer_is_no_counter(value: object) -> None:
    with pytest.raises(ValueError):
        counter(value)


@pytest.mark.real
def test_what_a_killed_agent_had_on_its_way_cannot_pass_for_the_next_ones(protected: Protected) -> None:
    """A late segment of the old agent would take the number of the new one's, whose data then counted as received."""
    protected.disk("os", 4 * MIB)
    protected.start()
    protected.wait_drained()

    def epoch() -> int:
        return Positions(str(protected.run_folder / "positions")).get("writer_epoch")

    before = epoch()
    protected.kill()
    protected.start()
    wait_for("a higher writer epoch", lambda: epoch() > before)


@pytest.fixture
def frozen(tmp_path: Path) -> Iterator[list[FileSystem]]:
    """Two small file systems that may be frozen."""
    disks, found = [], []
    for name in ("one", "two"):
        disk = LoopDisk(tmp_path, name, 16 * MIB)
        disks.append(disk)
        subprocess.run(["mkfs.ext4", "-q", disk.device], check=True)
        (tmp_path / f"mnt-{name}").mkdir()
        subprocess.run(["mount", disk.device, str(tmp_path / f"mnt-{name}")], check=True)
        found.append(FileSystem(str(tmp_path / f"mnt-{name}"), "ext4", 0))
    yield found
    for each in found:
        subprocess.run(["fsfreeze", "--unfreeze", each.mount_point], check=False, capture_output=True)
        subprocess.run(["umount", each.mount_point], check=True)
    for disk in disks:
        disk.close()


@pytest.mark.real
def test_an_ended_watchdog_keeps_nothing_frozen(frozen: list[FileSystem], tmp_path: Path) -> None:
    freezer = Freezer(str(tmp_path), 5.0)
    try:
        freezer.prepare(frozen)
        freezer.freeze()
        for held in freezer._held:
            held.process.kill()
            held.process.wait()
        assert freezer.frozen_mount_points == [each.mount_point for each in frozen]
        assert freezer.thaw()
    finally:
        freezer.close()
    for each in frozen:
        assert (
            subprocess.run(["fsfreeze", "--unfreeze", each.mount_point], check=False, capture_output=True).returncode
            != 0
        )


@pytest.mark.real
def test_what_has_no_watchdog_is_not_frozen(frozen: list[FileSystem], tmp_path: Path) -> None:
    freezer = Freezer(str(tmp_path), 5.0)
    try:
        freezer.prepare(frozen)
        freezer._held[0].process.kill()
        freezer._held[0].process.wait()
        freezer.freeze()
        assert freezer.frozen_mount_points == [frozen[1].mount_point]
        assert freezer.not_frozen == [{"name": frozen[0].mount_point, "reason": "its watchdog was ended"}]
        assert freezer.thaw()
    finally:
        freezer.close()


def resize(disk: LoopDisk, size: int) -> None:
    os.truncate(disk.image, size)
    subprocess.run(["losetup", "--set-capacity", disk.device], check=True)


@pytest.mark.real
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("size", "code"), [(32 * MIB, "disk-grown"), (8 * MIB, "disk-exchanged")])
def test_a_disk_that_changed_its_size_makes_no_point(protected: Protected, site: Site, size: int, code: str) -> None:
    disk = protected.disk("os", 16 * MIB)
    protected.changes = {"policy": {"crash_consistent_seconds": 1}}
    protected.start()
    protected.wait_drained()
    wait_for("a point", site.manifests)
    resize(disk, size)
    protected.wait_mode("stopped")
    why = protected.status()["reason"]
    assert why["code"] == code and why["remedy"] and f"{size} bytes now" in why["message"]
    points = len(site.manifests())
    assert protected.process is not None and protected.process.wait(10) != 0
    assert len(site.manifests()) <= points + 1  # one that was on its way, of before the change


@pytest.mark.real
@pytest.mark.timeout(120)
def test_a_full_run_folder_is_named_and_ends_nothing(protected: Protected, site: Site) -> None:
    disk = protected.disk("os", 16 * MIB)
    protected.run_folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(protected.run_folder)], check=True)
    try:
        protected.start()
        protected.wait_drained()
        with (protected.run_folder / "fill").open("wb", buffering=0) as file, pytest.raises(OSError):
            while True:
                file.write(bytes(4096))

        def said() -> object:
            beat = site.configuration._heartbeats.latest(SERVER)
            return beat and (beat.status.get("reason") or {}).get("code") == "cannot-remember"

        wait_for("a name for it", said)
        disk.write(3 * CHUNK, b"x" * CHUNK)
        cut = site.request_cut()
        wait_for("a point", lambda: site.cut(cut)["state"] == "point")
        (protected.run_folder / "fill").unlink()
        protected.wait_drained()
        wait_for("all is well again", lambda: not said())
        assert protected.differing_chunks() == []
    finally:
        if protected.process is not None:
            protected.kill()
        subprocess.run(["umount", str(protected.run_folder)], check=True)
