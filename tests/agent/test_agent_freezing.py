"""Freezing where it is hard: mounts that hide, storage that stalls, an agent that stands still in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent.filesystems import FileSystem, on_disks
from agent.freezer import FREEZE_SECONDS, Freezer
from agent.quieting import Quieting
from agent.unfrozen import unfrozen
from tests.agent.protected import MIB, LoopDisk, Protected, wait_for
from tests.agent.whole_site import Site

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

Disk = tuple[LoopDisk, Path]


def run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True)


def number(device: str) -> tuple[int, int]:
    found = Path(device).stat().st_rdev
    return os.major(found), os.minor(found)


def frozen(mount_point: Path) -> bool:
    """Tell whether it was frozen; it is not any more afterwards."""
    done = subprocess.run(["fsfreeze", "--unfreeze", str(mount_point)], check=False, capture_output=True)
    return done.returncode == 0


def reaches(site: Site, cut: str, state: str) -> None:
    wait_for(state, lambda: site.cut(cut)["state"] == state, 30)


def freezing_off(protected: Protected) -> dict[str, Any]:
    try:
        status = wait_for("its name", lambda: protected.status() if protected.status()["freezing"] != "on" else None)
    except AssertionError as error:
        raise AssertionError(f"{error}; {protected.status()}; {protected.log.read_text()}") from None
    return dict(status["freezing"])


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[..., Disk]]:
    """Makes disks with a mounted ext4 each, below a folder."""
    with ExitStack() as made:

        def make(name: str, folder: Path = tmp_path) -> Disk:
            disk = LoopDisk(folder, name, 16 * MIB)
            made.callback(disk.close)
            # Nothing of the file system's own is written later.
            run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", disk.device)
            point = tmp_path / f"mnt-{name}"
            point.mkdir()
            run("mount", disk.device, point)
            made.callback(run, "umount", "--recursive", point)
            return disk, point

        yield make


def test_a_file_system_is_found_by_the_mount_that_nothing_covers(mounted: Callable[..., Disk], tmp_path: Path) -> None:
    (disk, point), (_, other) = mounted("one"), mounted("two")
    inner = point / "a-longer-place"
    inner.mkdir()
    bound = tmp_path / "a-place-whose-name-is-longer-than-the-first"
    bound.mkdir()
    run("mount", "--bind", point, bound)
    try:
        assert on_disks(frozenset({number(disk.device)})) == [FileSystem(str(point), "ext4", 0)]
        run("mount", "--bind", other, point)  # whoever opens the shorter path now finds the other file system
        try:
            assert on_disks(frozenset({number(disk.device)})) == [FileSystem(str(bound), "ext4", 0)]
        finally:
            run("umount", point)
    finally:
        run("umount", bound)


def test_what_lies_in_a_loop_file_is_frozen_before_the_file_system_that_holds_it(
    mounted: Callable[..., Disk],
) -> None:
    disk, lower = mounted("lower")
    run("truncate", "-s", 8 * MIB, lower / "file.img")
    run("mkfs.ext4", "-q", lower / "file.img")
    (lower / "upper").mkdir()
    run("mount", "-o", "loop", lower / "file.img", lower / "upper")
    found = on_disks(frozenset({number(disk.device)}))
    assert [(each.mount_point, each.depth) for each in found] == [(str(lower / "upper"), 1), (str(lower), 0)]


def test_raw_devices_swap_and_private_mounts_are_named(mounted: Callable[..., Disk], tmp_path: Path) -> None:
    (seen, _), (hidden, hidden_point) = mounted("seen"), mounted("hidden")
    raw = LoopDisk(tmp_path, "raw", MIB)
    swap = LoopDisk(tmp_path, "swap", 4 * MIB)
    run("mkswap", "-q", swap.device)
    run("swapon", swap.device)
    # Mounted in a namespace of its own only: as a container's volume is.
    elsewhere = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo there; read end"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert elsewhere.stdout is not None and elsewhere.stdout.readline() == "there\n"
        run("umount", hidden_point)
        disks = [seen, hidden, raw, swap]
        reasons = {each["name"]: each["reason"] for each in unfrozen(frozenset(number(each.device) for each in disks))}
        assert set(reasons) == {hidden.device, raw.device, f"swap:{swap.device}"}
        assert "cannot reach" in reasons[hidden.device] and "no mounted file system" in reasons[raw.device]
    finally:
        elsewhere.communicate("end\n")
        run("swapoff", swap.device)
        run("mount", hidden.device, hidden_point)
        raw.close()
        swap.close()


class Stalling:
    """A disk whose storage can stand still: its image lies on a file system that is frozen meanwhile."""

    def __init__(self, mounted: Callable[..., Disk], name: str) -> None:
        _, self.below = mounted(f"below-{name}")
        run("truncate", "-s", 8 * MIB, self.below / f"{name}.img")
        self.disk, self.point = mounted(name, self.below)

    def stall(self) -> None:
        """Let every write to the disk wait from now on, of which there is one."""
        os.sync()
        run("fsfreeze", "--freeze", self.below)
        (self.point / "dirty").write_bytes(os.urandom(MIB))

    def go_on(self) -> None:
        run("fsfreeze", "--unfreeze", self.below)


def test_a_stalled_storage_keeps_no_other_file_system_frozen(mounted: Callable[..., Disk], tmp_path: Path) -> None:
    stalling, (_, other) = Stalling(mounted, "stalling"), mounted("other")
    both = [FileSystem(str(stalling.point), "ext4", 0), FileSystem(str(other), "ext4", 0)]
    freezer = Freezer(str(tmp_path), 5.0)
    freezer.prepare(both)
    stalling.stall()
    try:
        began = time.monotonic()
        assert not freezer.freeze()
        assert not freezer.thaw()
        freezer.close()
        assert time.monotonic() - began < FREEZE_SECONDS + 0.8
        assert freezer.stalled == [str(stalling.point)] and freezer.frozen_mount_points == [str(other)]
        assert not frozen(other)
    finally:
        stalling.go_on()
    # The freeze that was given up ends now, and whoever began it thaws.
    (stalling.point / "after").write_bytes(b"x")
    run("sync", "-f", stalling.point)
    wait_for("the thaw", lambda: not any("freeze" in each.name for each in threading.enumerate()))
    assert not frozen(stalling.point)


def test_one_overrun_switches_freezing_off_for_that_file_system_only(
    protected: Protected, site: Site, mounted: Callable[..., Disk]
) -> None:
    stalling = Stalling(mounted, "stalling")
    well = protected.mount(protected.disk("other", 16 * MIB))
    protected.disks.append(stalling.disk)
    protected.start()
    try:
        protected.wait_drained()
        # Its syncfs is quick, for nothing is dirty; its freeze, which writes a superblock, is not.
        run("sync", "-f", stalling.point)
        run("fsfreeze", "--freeze", stalling.below)
        try:
            cut = site.request_cut()
            wait_for("a point", lambda: site.cut(cut)["state"] == "point", 60)
            (well / "file").write_bytes(b"not frozen")
            run("sync", "-f", well)
        finally:
            stalling.go_on()
        freezing = freezing_off(protected)
        assert freezing["file_systems"] == [str(stalling.point)] and str(stalling.point) in freezing["off"]["message"]
        manifest = site.manifests()[-1]
        assert manifest["frozen"] == [str(well)]
        assert {"name": str(stalling.point), "reason": "freeze-deadline"} in manifest["not_frozen"]
    finally:
        protected.stop()
        protected.disks.remove(stalling.disk)


def test_an_agent_that_stands_still_in_the_middle_keeps_nothing_frozen(protected: Protected, site: Site) -> None:
    mount = protected.mount(protected.disk("os", 16 * MIB))
    process = protected.start()
    protected.wait_drained()
    cut = site.request_cut(barrier=True)
    reaches(site, cut, "frozen")
    os.kill(process, signal.SIGSTOP)
    try:
        began = time.monotonic()
        (mount / "file").write_bytes(b"x")
        run("sync", "-f", mount)
        assert time.monotonic() - began < 6.0, "the watchdog thaws at the deadline of 5 s"
    finally:
        os.kill(process, signal.SIGCONT)
    assert wait_for("an end", lambda: site.cut(cut) if site.cut(cut)["state"] == "skipped" else None)["reason"]
    assert freezing_off(protected)["file_systems"] == [str(mount)]
    # Points go on without freezing: nobody writes, so the interval is quiet.
    cut = site.request_cut()
    reaches(site, cut, "point")
    assert {"name": str(mount), "reason": "freeze-deadline"} in site.manifests()[-1]["not_frozen"]


def test_an_agent_whose_log_lies_on_the_frozen_file_system_makes_its_point(protected: Protected, site: Site) -> None:
    mount = protected.mount(protected.disk("os", 16 * MIB))
    protected.log = mount / "agent.log"
    protected.log.touch()
    protected.start()
    protected.wait_drained()
    for _ in range(2):
        cut = site.request_cut(barrier=True)
        reaches(site, cut, "frozen")
        site.release(cut)
        reaches(site, cut, "point")
    assert site.manifests()[-1]["frozen"] == [str(mount)] and site.manifests()[-1]["freeze_ms"] < 3000
    assert protected.stop() == 0
    protected.log = Path("/dev/null")


def test_freezing_that_is_off_is_named_once_for_each(tmp_path: Path) -> None:
    quieting = Quieting(str(tmp_path))
    assert quieting.document == "on"
    quieting.switch_off(["/data"], 6000)
    quieting.switch_off(["/srv"], 7000)
    assert set(Quieting(str(tmp_path)).off) == {"/data", "/srv"}
    document = quieting.document
    assert document["file_systems"] == ["/data", "/srv"]
    assert "6000 ms" in document["off"]["message"] and "7000 ms" in document["off"]["message"]
    assert "freezing-off.json" in document["off"]["remedy"]
