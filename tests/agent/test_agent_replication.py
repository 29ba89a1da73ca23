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
    # The maps may tell once more of what the ring told of: one round later, and then never again.
    quiet_since, sent = time.monotonic(), 0
    until = quiet_since + 60
    while time.monotonic() < quiet_since + QUIET_SECONDS:
        assert time.monotonic() < until, "it goes on sending"
        if (now := protected.status()["sent_bytes"]) != sent:
            quiet_since, sent = time.monotonic(), now
        time.sleep(0.2)
    assert 64 * MIB < sent < 2 * 64 * MIB + 16 * MIB
    status = protected.status()
    assert (status["mode"], status["pending_bytes"]) == ("delta", 0)
