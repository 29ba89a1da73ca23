"""Recovery points on a real file system: one instant, frozen and thawed, or skipped by name."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.agent.protected import MIB, LoopDisk, Protected, wait_for
from tests.agent.whole_site import Site

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

ENDED = ("point", "skipped")

WRITER = """
import os, sys
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
number = 0
while True:
    os.write(fd, b"%015d\\n" % number)
    os.fsync(fd)
    number += 1
"""


def ended(site: Site, cut: str) -> dict[str, Any]:
    return dict(wait_for(f"end of cut {cut}", lambda: site.cut(cut) if site.cut(cut)["state"] in ENDED else None, 60))


def mounted_copy(folder: Path, content: bytes, kind: str) -> tuple[LoopDisk, Path]:
    copy = LoopDisk(folder, "copy", len(content), content)
    point = folder / "copy"
    point.mkdir()
    # The original is still mounted, and XFS refuses a second file system of the same id.
    options = ["-o", "nouuid"] if kind == "xfs" else []
    subprocess.run(["mount", *options, copy.device, str(point)], check=True)
    return copy, point


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_a_requested_point_is_one_instant_of_a_busy_file_system(
    protected: Protected, site: Site, tmp_path: Path, kind: str
) -> None:
    disk = protected.disk("os", 400 * MIB)
    mount = protected.mount(disk, kind)
    protected.start()
    protected.wait_mode("delta", 60)
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(mount / "log")])
    try:
        time.sleep(1)
        asked = (mount / "log").stat().st_size
        cut = site.request_cut()
        outcome = ended(site, cut)
        done = (mount / "log").stat().st_size
    finally:
        writer.kill()
        writer.wait()
    assert outcome["state"] == "point", (outcome, protected.log.read_text())
    manifest = site.manifests()[-1]
    assert manifest["frozen"] == [str(mount)]
    assert manifest["not_frozen"] == []
    assert 0 < manifest["freeze_ms"] < 5000
    copy, point = mounted_copy(tmp_path, site.replica("os", disk.size, manifest["disks"][0]["snapshot"]), kind)
    try:
        lines = (point / "log").read_bytes()
        assert asked <= len(lines) <= done
        numbers = lines.split(b"\n")[:-1]
        assert numbers == [b"%015d" % number for number in range(len(numbers))]
    finally:
        subprocess.run(["umount", str(point)], check=True)
        copy.close()
    assert protected.status()["last_cut"]["number"] == manifest["number"]


def test_a_barrier_holds_the_server_until_it_is_released(protected: Protected, site: Site) -> None:
    disk = protected.disk("os", 400 * MIB)
    mount = protected.mount(disk)
    protected.start()
    protected.wait_mode("delta", 60)
    (mount / "file").write_bytes(os.urandom(3 * MIB))
    cut = site.request_cut(barrier=True)
    wait_for("frozen", lambda: site.cut(cut)["state"] == "frozen", 30)
    picture = disk.image.read_bytes()
    site.release(cut)
    outcome = ended(site, cut)
    assert outcome["state"] == "point", (outcome, protected.log.read_text())
    snapshot = site.manifests()[-1]["disks"][0]["snapshot"]
    assert site.replica("os", disk.size, snapshot) == picture


def test_a_barrier_that_nobody_releases_ends_by_name(protected: Protected, site: Site) -> None:
    mount = protected.mount(protected.disk("os", 400 * MIB))
    protected.start()
    protected.wait_mode("delta", 60)
    outcome = ended(site, site.request_cut(barrier=True))
    assert (outcome["state"], outcome["reason"]["code"]) == ("skipped", "barrier-timeout")
    (mount / "written-after").write_bytes(b"thawed")
    os.sync()


def test_a_raw_writer_makes_the_point_invalid(protected: Protected, site: Site) -> None:
    protected.mount(protected.disk("os", 400 * MIB))
    raw = protected.disk("raw", 16 * MIB)
    protected.start()
    protected.wait_mode("delta", 60)
    cut = site.request_cut(barrier=True)
    wait_for("frozen", lambda: site.cut(cut)["state"] == "frozen", 30)
    raw.write(0, os.urandom(4096))  # nothing can freeze who writes to the device itself
    site.release(cut)
    outcome = ended(site, cut)
    assert (outcome["state"], outcome["reason"]["code"]) == ("skipped", "busy-unfrozen-writer")
    assert ended(site, site.request_cut())["state"] == "point"
    protected.wait_drained()
    assert protected.differing_chunks() == []


def test_a_killed_agent_leaves_nothing_frozen(protected: Protected, site: Site) -> None:
    mount = protected.mount(protected.disk("os", 400 * MIB))
    protected.start()
    protected.wait_mode("delta", 60)
    cut = site.request_cut(barrier=True)
    wait_for("frozen", lambda: site.cut(cut)["state"] == "frozen", 30)
    protected.kill()
    began = time.monotonic()
    (mount / "file").write_bytes(b"x")
    os.sync()
    assert time.monotonic() - began < 2
    protected.start()
    protected.wait_drained()
    assert protected.status()["mode"] == "delta"
    assert protected.differing_chunks() == []


def test_no_point_before_the_initial_replication_has_finished(protected: Protected, site: Site) -> None:
    protected.disk("os", 64 * MIB)
    site.stop_process_server()
    protected.start()
    outcome = ended(site, site.request_cut())
    assert (outcome["state"], outcome["reason"]["code"]) == ("skipped", "not-yet-protected")
    assert site.manifests() == []
