"""What retention relies on when it deletes: its own record by the store's clock, and nothing that was read long ago."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import pytest

from dr.compile import names
from dr.errors import Unreachable
from dr.retention.pruning import LOOSE, Pruned, prune
from dr.vault import declared
from dr.vault.declared import GRACE
from dr.vault.memory import MemoryBlobStore
from dr.vault.store import BlobEntry
from dr.vault.verify import verify_point
from tests.retention.vaults import Vault

STEP, HOUR, DAY = timedelta(minutes=20), timedelta(hours=1), timedelta(days=1)
RETENTION = 15 * DAY
SECOND = timedelta(seconds=1)


def run(vault: Vault, moment: datetime) -> Pruned:
    vault.now = moment
    return {each.server: each for each in prune(vault.store)}["shop1"]


def edit(vault: Vault, left: str | None = None, **values: object) -> None:
    """Write site.json by hand, as anybody can who may write container `retention`."""
    document = json.loads(vault.store.get(names.RETENTION, declared.BLOB)[0])
    document["servers"]["shop1"] |= {"left": left, **values}
    vault.store.put(names.RETENTION, declared.BLOB, json.dumps(document).encode())


@pytest.fixture
def full(vault: Vault) -> Vault:
    """Six points of `shop1` under a retention of 15 days, and a pass that has seen them."""
    vault.declare(RETENTION, "shop1")
    vault.cut_every(STEP, 6)
    prune(vault.store)
    return vault


def test_the_time_of_leaving_is_the_stores(full: Vault) -> None:
    full.declare(RETENTION)
    assert declared.read(full.store)["shop1"].left == full.now


def test_a_time_of_leaving_that_is_a_lie_removes_nothing_early(full: Vault) -> None:
    points, seen = full.points(), full.now
    edit(full, left="2000-01-01T00:00:00.000Z", retention_seconds=0)
    done = run(full, seen)
    assert done.until == seen + RETENTION + GRACE
    run(full, seen + RETENTION + GRACE - SECOND)
    assert full.points() == points
    run(full, seen + RETENTION + GRACE)
    assert full.points() == []


def test_a_shorter_retention_waits_for_the_old_one_and_the_grace(full: Vault) -> None:
    points, seen = full.points(), full.now
    full.declare(timedelta(0), "shop1")
    run(full, seen)
    run(full, seen + RETENTION + GRACE - SECOND)
    assert full.points() == points
    run(full, seen + RETENTION + GRACE)
    assert full.points() == points[-1:]


def test_a_retention_that_is_shortened_further_waits_anew_and_one_that_is_taken_back_was_never_shorter(
    full: Vault,
) -> None:
    points, seen = full.points(), full.now
    full.declare(14 * DAY, "shop1")
    run(full, seen)
    full.declare(timedelta(0), "shop1")
    run(full, seen + RETENTION + GRACE - SECOND)
    run(full, seen + RETENTION + GRACE)
    assert full.points() == points
    full.declare(RETENTION, "shop1")
    run(full, full.now + HOUR)
    full.declare(timedelta(0), "shop1")
    run(full, full.now + HOUR)
    run(full, full.now + RETENTION + GRACE - SECOND)
    assert full.points() == points


def test_a_server_that_was_taken_out_of_the_list_by_hand_comes_back_under_its_old_retention(full: Vault) -> None:
    points = full.points()
    declared.forget(full.store, "shop1")
    assert "never named" in run(full, full.now + HOUR).problems[0]
    full.declare(timedelta(0), "shop1")
    run(full, full.now + HOUR)
    assert full.points() == points


def test_a_pin_that_was_taken_away_holds_until_its_delay_is_over(vault: Vault) -> None:
    vault.declare(timedelta(0), "shop1")
    points = vault.cut_every(STEP, 3)
    pin = names.pin_blob("shop1", points[0].id)
    vault.store.put(names.RETENTION, pin, b"{}")
    prune(vault.store)
    assert vault.points() == [points[0], points[2]]
    vault.store.delete(names.RETENTION, pin)
    seen = vault.now
    run(vault, seen)
    run(vault, seen + GRACE - SECOND)
    assert vault.points() == [points[0], points[2]]
    run(vault, seen + GRACE)
    assert vault.points() == [points[2]]


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"retention_seconds": 0}', b"\xff"])
def test_an_unreadable_record_stops_the_deletions_of_its_server_by_name(vault: Vault, damage: bytes) -> None:
    vault.declare(timedelta(0), "shop1", "db1")
    vault.cut()
    prune(vault.store)
    points = [*vault.points(), *vault.cut_every(STEP, 3)]
    vault.cut_every(STEP, 3, "db1")
    vault.store.put(names.OBSERVED, "shop1.json", damage)
    done = run(vault, vault.now + DAY)
    assert "observed/shop1.json" in done.problems[0]
    assert vault.points() == points
    assert vault.store.get(names.OBSERVED, "shop1.json")[0] == damage
    assert len(vault.points("db1")) == 1, "the others go on"


def test_a_pass_that_comes_at_once_after_a_failed_one_deletes_no_snapshot(vault: Vault) -> None:
    vault.declare(timedelta(0), "shop1")
    vault.cut_every(2 * HOUR, 4)
    vault.store.script("...D")  # the record, two manifests, and no answer
    with pytest.raises(Unreachable):
        prune(vault.store)
    vault.store.heal()
    start = vault.now
    for seconds in (15, 30, 45):
        assert run(vault, start + seconds * SECOND).snapshots_removed == 0
    assert len(vault.points()) == 1
    assert run(vault, start + LOOSE).snapshots_removed == 0
    assert run(vault, start + LOOSE + 45 * SECOND).snapshots_removed == 6


class Meanwhile(MemoryBlobStore):
    """A store where something happens while a pass reads what the server has."""

    happens: Callable[[], None] | None = None

    def inventory(self, container: str, prefix: str = "") -> Iterator[BlobEntry]:
        yield from super().inventory(container, prefix)
        if container == names.REPLICAS and self.happens is not None:
            happens, self.happens = self.happens, None
            happens()


@pytest.fixture
def meanwhile(full: Vault) -> tuple[Vault, Meanwhile]:
    """`shop1` left, and its time is over."""
    full.declare(RETENTION)
    prune(full.store)
    full.now += RETENTION + GRACE
    store = Meanwhile(lambda: full.now)
    store.rollback(full.store.save())
    full.store = store
    return full, store


def test_a_server_that_comes_back_during_a_pass_keeps_everything(meanwhile: tuple[Vault, Meanwhile]) -> None:
    vault, store = meanwhile
    points = vault.points()
    store.happens = lambda: vault.declare(RETENTION, "shop1")
    prune(store)
    assert vault.points() == points


def test_a_point_that_is_chosen_or_pinned_during_a_pass_stays(meanwhile: tuple[Vault, Meanwhile]) -> None:
    vault, store = meanwhile
    points = vault.points()

    def choose_and_pin() -> None:
        vault.select(points[0])
        store.put(names.RETENTION, names.pin_blob("shop1", points[1].id), b"{}")

    store.happens = choose_and_pin
    prune(store)
    assert vault.points() == points[:2]
    assert [verify_point(store, point) for point in points[:2]] == [[], []]


def test_the_replica_goes_last_and_its_record_with_it(meanwhile: tuple[Vault, Meanwhile]) -> None:
    vault, store = meanwhile
    assert len(run(vault, vault.now).removed) == 6
    assert not run(vault, vault.now + 15 * SECOND).replica_removed
    assert len(vault.snapshots()) == 12
    done = run(vault, vault.now + LOOSE)
    assert (done.snapshots_removed, done.replica_removed) == (12, True)
    assert prune(store) == []
    assert list(store.list(names.OBSERVED)) == []
