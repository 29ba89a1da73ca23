"""What a group shares is kept or ended on all its servers together, however their clocks go."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from dr.retention.pruning import prune
from dr.vault.manifest import format_time
from dr.vault.points import list_points
from dr.vault.shared import shared_points
from tests.retention.vaults import Vault

MEMBERS = {"db1": timedelta(0), "shop1": timedelta(minutes=-4), "web1": timedelta(minutes=3)}


@pytest.fixture
def vault() -> Iterator[Vault]:
    made = Vault()
    yield made
    made.close()


@pytest.mark.thorough
def test_clocks_that_differ_do_not_tear_shared_points_apart(vault: Vault) -> None:
    vault.declare(timedelta(days=1), *MEMBERS)
    for number in range(200):
        group = {
            "name": "shop",
            "id": f"{number:016x}",
            "members": sorted(MEMBERS),
            "time": format_time(vault.now),
        }
        for server, skew in MEMBERS.items():
            vault.cut(server, cut_time=format_time(vault.now + skew), group=group)
            vault.now += timedelta(seconds=7)
        vault.now += timedelta(minutes=7)
    prune(vault.store)
    points = {server: list_points(vault.store, server) for server in MEMBERS}
    counts = {server: len(found) for server, found in points.items()}
    assert len(set(counts.values())) == 1
    assert 30 < counts["db1"] < 100
    assert len(shared_points(points, "shop")) == counts["db1"]
