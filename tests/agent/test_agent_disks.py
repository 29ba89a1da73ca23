"""Disks that grow, join and leave while a server is protected: named, replicated, and then in the points."""

from __future__ import annotations

import os
import random
import subprocess

import pytest

from dr.compile import names
from dr.vault.points import list_points
from dr.vault.verify import verify_point
from tests.agent.protected import CHUNK, MIB, LoopDisk, Protected, wait_for
from tests.agent.whole_site import SERVER, Site

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


def fill(disk: LoopDisk, chunks: range, tag: str) -> None:
    for chunk in chunks:
        disk.write(chunk * CHUNK, random.Random(f"{tag}/{chunk}").randbytes(CHUNK))


def grow(disk: LoopDisk, size: int) -> None:
    os.truncate(disk.image, size)
    subprocess.run(["losetup", "--set-capacity", disk.device], check=True)
    disk.size = size


def point_of(protected: Protected, site: Site, disks: dict[str, int]) -> None:
    """Have a point made: it must hold these disks as they are, and every point there is must be whole."""
    before = len(site.manifests())
    site.request_cut()
    wait_for("a point", lambda: len(site.manifests()) > before, 60)
    assert {each["name"]: each["size_bytes"] for each in site.manifests()[-1]["disks"]} == disks
    assert protected.differing_chunks() == []
    for point in list_points(site.store, SERVER):
        assert verify_point(site.store, point) == []


def resynced(protected: Protected, why: str) -> None:
    wait_for("the end of the resync", lambda: "resync: everything has been read" in protected.log.read_text(), 120)
    protected.wait_drained(60)
    assert f"tracking begins: {why}" in protected.log.read_text()


def test_a_disk_that_grows_while_it_is_protected_is_replicated_whole(protected: Protected, site: Site) -> None:
    disk = protected.disk("os", 16 * MIB + 512)
    fill(disk, range(0, 256, 3), "before")
    protected.start()
    protected.wait_drained()
    point_of(protected, site, {"os": 16 * MIB + 512})
    sent = protected.status()["sent_bytes"]
    grow(disk, 40 * MIB)
    protected.wait_mode("stopped")
    assert protected.status()["reason"]["code"] == "disk-grown"
    assert protected.process is not None
    protected.process.wait(10)
    fill(disk, range(300, 310), "into the new part")
    protected.start()
    resynced(protected, f"disks-changed: disk os has {40 * MIB} bytes, had {16 * MIB + 512}")
    point_of(protected, site, {"os": 40 * MIB})
    assert protected.status()["sent_bytes"] - sent < 20 * CHUNK, "what was there is not sent again"


def test_a_disk_that_joins_is_replicated_and_one_that_leaves_is_not_missed(protected: Protected, site: Site) -> None:
    disk = protected.disk("os", 16 * MIB)
    fill(disk, range(0, 256, 5), "os")
    protected.start()
    protected.wait_drained()
    protected.kill()
    more = protected.disk("data", 8 * MIB)
    fill(more, range(0, 128, 2), "data")
    protected.start()
    resynced(protected, f"disks-changed: disk data joined with {8 * MIB} bytes")
    point_of(protected, site, {"os": 16 * MIB, "data": 8 * MIB})
    protected.kill()
    protected.disks.remove(more)
    more.close()
    protected.log.write_text("")
    protected.start()
    resynced(protected, "disks-changed: disk data left")
    point_of(protected, site, {"os": 16 * MIB})
    assert any(name == names.replica_blob(SERVER, "data") for name in site.store.list(names.REPLICAS))


def test_a_disk_under_another_device_name_is_the_same_disk_and_nothing_that_nobody_saw_is_missed(
    protected: Protected, site: Site
) -> None:
    disk = protected.disk("os", 16 * MIB)
    fill(disk, range(0, 256, 3), "before")
    protected.start()
    protected.wait_drained()
    point_of(protected, site, {"os": 16 * MIB})
    sent = protected.status()["sent_bytes"]
    protected.stop()
    disk.rename()
    fill(disk, range(100, 110), "under a name that no witness knows")
    protected.start()
    resynced(protected, "tracker-lost: the tracing instance records other disks")
    point_of(protected, site, {"os": 16 * MIB})
    assert 10 * CHUNK <= protected.status()["sent_bytes"] - sent < 20 * CHUNK, "only what differs is sent"
