"""The agent on real disks against a real process server: nothing is lost, whoever is killed."""

from __future__ import annotations

import pytest

from tests.agent.protected import CHUNK, MIB, Protected, fill

pytestmark = [pytest.mark.real, pytest.mark.timeout(180)]


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
