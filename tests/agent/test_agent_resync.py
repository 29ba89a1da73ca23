"""Resync: what was missed is found by digests, and nothing else is sent."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from agent.control import HEARTBEAT_SECONDS
from agent.state import Positions
from dr.model import Traffic, TrafficWindow
from tests.agent.protected import CHUNK, MIB, Protected, fill, wait_for
from tests.agent.whole_site import Site

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


def remove_the_tracer(protected: Protected) -> None:
    """Take the agent's tracing instance away while it is down, as another program might."""
    protected.kill()
    (Path("/sys/kernel/tracing/instances") / protected.instance).rmdir()


def resynced(protected: Protected) -> None:
    ended = "resync: everything has been read"
    wait_for("the end of the resync", lambda: ended in protected.log.read_text(), 120)
    protected.wait_drained(60)


def test_only_what_differs_is_sent(protected: Protected) -> None:
    disks = [protected.disk("os", 64 * MIB), protected.disk("data", 32 * MIB + 512)]
    for disk in disks:
        fill(disk, range(0, disk.size // CHUNK, 2), "first")
    protected.start()
    protected.wait_drained()
    sent = protected.status()["sent_bytes"]
    remove_the_tracer(protected)
    for disk in disks:
        fill(disk, range(0, 40, 4), "missed")
        disk.write(2 * CHUNK, bytes(CHUNK))
        disk.write(disk.size - 512, b"\x01" * 512)
    protected.start()
    resynced(protected)
    assert protected.differing_chunks() == []
    assert protected.status()["sent_bytes"] - sent < 2 * 14 * CHUNK


def test_a_replica_of_an_earlier_protection_is_not_taken_for_an_empty_one(protected: Protected, site: Site) -> None:
    """Its positions count as 0 in a new protection epoch; an agent that is new here must not leave out zeros."""
    disk = protected.disk("os", 8 * MIB)
    fill(disk, range(0, 64), "earlier")
    protected.start()
    protected.wait_drained()
    protected.stop()
    protected.forget()
    site.stop_process_server()
    site.protection_epoch = 2
    site.start_process_server()
    for chunk in range(0, 64, 2):
        disk.write(chunk * CHUNK, bytes(CHUNK))
    protected.changes = {"protection_epoch": 2}
    protected.start()
    protected.wait_drained(60)
    assert protected.differing_chunks() == []


def test_what_lies_in_the_spool_is_stored_before_anything_is_compared(protected: Protected, site: Site) -> None:
    disk = protected.disk("os", 16 * MIB)
    protected.start()
    protected.wait_drained()
    site.store.script("D")
    fill(disk, range(32), "on its way")
    wait_for("received", lambda: protected.status()["pending_bytes"] == 0 and protected.status()["sequence"] > 1, 60)
    remove_the_tracer(protected)
    for chunk in range(32):
        disk.write(chunk * CHUNK, bytes(CHUNK))  # what the replica holds, until the segments in the spool are stored
    protected.start()
    wait_for("the beginning of the resync", lambda: protected.status().get("mode") == "resync", 60)
    site.store.heal()
    resynced(protected)
    assert protected.differing_chunks() == []


def test_a_store_that_went_back_is_not_believed_about_its_digests(protected: Protected, site: Site) -> None:
    disk = protected.disk("os", 16 * MIB)
    protected.start()
    protected.wait_drained()
    before = site.store.save()
    fill(disk, range(64), "forgotten")
    protected.wait_drained()
    now = site.store.save()
    site.store.rollback({key: (now if key[1].endswith(".digests") else before)[key] for key in before})
    fill(disk, range(64, 65), "noticed by this one")
    resynced(protected)
    assert "store-went-back" in protected.log.read_text()
    assert protected.differing_chunks() == []


@pytest.mark.parametrize("running", [True, False])
def test_what_somebody_else_sent_as_this_server_does_not_stay(protected: Protected, site: Site, running: bool) -> None:
    """A stolen certificate, a second agent, or a machine that was set back to a snapshot with its memory."""
    disk = protected.disk("os", 16 * MIB)
    fill(disk, range(64), "ours")
    protected.start()
    protected.wait_drained()
    if not running:
        protected.kill()
    site.send_as_somebody_else(disk.name, disk.size, {7: bytes(CHUNK), 9: b"x" * CHUNK})
    if not running:
        protected.start()
    fill(disk, [1], "written afterwards")
    resynced(protected)
    assert "another-sender" in protected.log.read_text()
    assert protected.differing_chunks() == []


def test_a_store_that_forgot_what_only_the_process_server_knew_is_named_and_healed(
    protected: Protected, site: Site
) -> None:
    disk = protected.disk("os", 16 * MIB)
    protected.start()
    protected.wait_drained()
    before, told = site.store.save(), protected.status()["stored_sequence"]
    fill(disk, range(64), "forgotten")
    protected.wait_drained()
    protected.kill()
    positions = Positions(str(protected.run_folder / "positions"))
    positions.set("stored_sequence", told)  # as if the answers had not come
    site.store.rollback(before)
    protected.start()
    resynced(protected)
    assert "store-went-back" in protected.log.read_text()
    assert protected.differing_chunks() == []


def test_a_resync_that_somebody_asked_for_finds_what_changed_behind_the_agents_back(
    protected: Protected, site: Site
) -> None:
    disk = protected.disk("os", 32 * MIB)
    fill(disk, range(0, 512, 2), "first")
    protected.start()
    protected.wait_drained()
    wait_for("the status of all that was sent", lambda: protected.status()["sent_bytes"] > 256 * CHUNK)
    sent = protected.status()["sent_bytes"]
    with disk.image.open("r+b") as image:  # below the block layer, where no tracer sees it
        image.seek(7 * CHUNK)
        image.write(b"unseen")
    request = site.request_resync()
    resynced(protected)
    assert protected.status()["resync_request"] == request
    assert protected.differing_chunks() == []
    assert protected.status()["sent_bytes"] - sent < 2 * CHUNK


def test_a_resync_waits_for_the_end_of_the_policys_window_unless_somebody_asks(
    protected: Protected, site: Site
) -> None:
    disk = protected.disk("os", 16 * MIB)
    protected.start()
    protected.wait_drained()
    site.declare_traffic(Traffic(windows=(TrafficWindow(tuple(range(7)), 0, 0, None, resync=False),)))
    remove_the_tracer(protected)
    fill(disk, range(3), "missed")
    protected.start()
    wait_for(
        "the name of the state", lambda: (protected.status().get("reason") or {}).get("code") == "resync-waits", 60
    )
    reading = protected.status()
    assert reading["mode"] == "resync" and reading["initial_bytes_done"] == 0
    assert "tracker-lost" in reading["reason"]["message"]
    site.request_resync()
    resynced(protected)
    assert protected.differing_chunks() == []


def test_what_is_sent_stays_below_the_policys_bandwidth(protected: Protected, site: Site) -> None:
    limit = 1 << 20
    disk = protected.disk("os", 16 * MIB)
    protected.start()
    protected.wait_drained()
    site.declare_traffic(Traffic(bandwidth_bytes_per_second=limit))
    time.sleep(2 * HEARTBEAT_SECONDS)
    began = time.monotonic()
    fill(disk, range(0, 10 * MIB // CHUNK), "slowly")
    protected.wait_drained(60)
    # The last segment is stored while its waiting is still to come; one second of the limit goes out at once.
    assert time.monotonic() - began > (10 * MIB - 4 * MIB) / limit - 1
    assert protected.differing_chunks() == []
