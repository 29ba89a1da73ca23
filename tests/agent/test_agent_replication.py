"""The agent on real disks against a real process server: nothing is lost, whoever is killed."""

from __future__ import annotations

import random
import time

import pytest

from tests.agent.protected import CHUNK, MIB, Protected, fill
from tests.agent.whole_site import Site

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]

QUIET_SECONDS = 6.0  # several of the longest rounds, and a certificate


def test_initial_replication_then_deltas(protected: Protected) -> None:
    disk = protected.disk("os", 64 * MIB)
    fill(disk, range(0, 1024, 3))
    protected.start()
    protected.wait_drained()
    assert protected.differing_chunks() == []
    fill(disk, range(5, 900, 7), tag=1)
    disk.write(3 * CHUNK, bytes(CHUNK))
    protected.wait_drained()
    assert protected.differing_chunks() == []
    assert protected.stop() == 0


def test_a_burst_of_64_mib_arrives_whole_and_then_nothing_more_is_sent(protected: Protected, site: Site) -> None:
    disk = protected.disk("os", 128 * MIB)
    fill(disk, range(0, 2048, 9), "before")
    protected.start()
    protected.wait_drained()
    content = random.Random("burst")
    for number in range(64):
        disk.write((32 + number) * MIB, content.randbytes(MIB))
    protected.wait_drained(90)
    assert site.replica("os", disk.size) == disk.content()
    sent = protected.status()["sent_bytes"]
    assert sent > 64 * MIB
    time.sleep(QUIET_SECONDS)
    status = protected.status()
    assert (status["sent_bytes"], status["pending_bytes"]) == (sent, 0)
    assert status["mode"] == "delta"
