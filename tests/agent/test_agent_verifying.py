"""The verification pass on real disks: drift is found, writes are not taken for it, and nothing else is sent."""

from __future__ import annotations

import random
import threading

import pytest

from tests.agent.protected import CHUNK, MIB, LoopDisk, Protected, wait_for
from tests.agent.whole_site import Site

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
SETTLE_SECONDS = 6.0  # longer than a round's certificate takes


def verified(protected: Protected, site: Site) -> dict[str, object]:
    before = (protected.status().get("verification") or {}).get("request")
    # The configuration server hears of a pass's end with the next heartbeat, and until then names that pass.
    wait_for("a new pass", lambda: site.request_verification() != before)
    request = site.request_verification()

    def ended() -> bool:
        told = protected.status().get("verification") or {}
        return bool(told.get("request") == request and told.get("state") == "ended")

    wait_for("the end of the verification pass", ended, 120)
    told: dict[str, object] = protected.status()["verification"]
    return told


def behind_the_back(disk: LoopDisk, chunk: int, content: bytes) -> None:
    """Change a disk below the block layer, where no tracer sees it."""
    with disk.image.open("r+b") as image:
        image.seek(chunk * CHUNK)
        image.write(content)


def test_an_equal_disk_is_compared_whole_and_nothing_is_sent(protected: Protected, site: Site) -> None:
    protected.changes["settle_seconds"] = SETTLE_SECONDS
    disks = [protected.disk("os", 64 * MIB), protected.disk("data", 8 * MIB + 512)]
    disks[0].write(5 * CHUNK, random.Random(1).randbytes(CHUNK))
    protected.start()
    protected.wait_drained()
    sent = protected.status()["sent_bytes"]
    told = verified(protected, site)
    assert told["drift_bytes"] == 0 and told["drift"] == [] and told["unreadable"] is None
    assert told["compared_bytes"] == told["total_bytes"]
    assert protected.status()["sent_bytes"] - sent < CHUNK


def test_drift_is_found_named_and_sent(protected: Protected, site: Site) -> None:
    protected.changes["settle_seconds"] = SETTLE_SECONDS
    disk = protected.disk("os", 64 * MIB)
    protected.start()
    protected.wait_drained()
    behind_the_back(disk, 700, b"unseen")
    told = verified(protected, site)
    assert told["drift_bytes"] == CHUNK and told["drift"] == [{"disk": "os", "offset": 700 * CHUNK}]
    wait_for("the drift is healed", lambda: protected.differing_chunks() == [], 60)
    assert "resync" not in protected.log.read_text()
    assert verified(protected, site)["drift_bytes"] == 0


def test_a_disk_that_is_written_all_the_time_has_no_drift(protected: Protected, site: Site) -> None:
    protected.changes["settle_seconds"] = SETTLE_SECONDS
    disk = protected.disk("os", 64 * MIB)
    protected.start()
    protected.wait_drained()
    ended = threading.Event()

    def write() -> None:
        chance = random.Random(7)
        while not ended.is_set():
            disk.write(chance.randrange(1024) * CHUNK, chance.randbytes(4096))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        told = verified(protected, site)
    finally:
        ended.set()
        writer.join()
    assert told["drift_bytes"] == 0
    protected.wait_drained()
    assert protected.differing_chunks() == []
