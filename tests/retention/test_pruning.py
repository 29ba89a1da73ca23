"""A pass of retention over a vault: what it removes, in which order, and what it never touches."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from dr.compile import names
from dr.errors import Corrupt, Refused, Unreachable
from dr.retention.pruning import LOOSE, Pruned, named_by, prune
from dr.retention.table import Dated, surplus
from dr.vault import declared
from dr.vault.manifest import to_bytes
from dr.vault.memory import MemoryBlobStore
from dr.vault.points import read_points
from dr.vault.verify import verify_point
from tests.retention.vaults import Vault

MINUTES_20, HOUR, DAY = timedelta(minutes=20), timedelta(hours=1), timedelta(days=1)


def passes(vault: Vault, count: int = 3) -> list[Pruned]:
    """Run a pass, a later one, which sees the snapshots that nothing names, and another, which removes them."""
    done = prune(vault.store)
    for _ in range(count - 1):
        vault.now += 2 * HOUR
        done = prune(vault.store)
    return done


def test_what_the_table_does_not_keep_goes_with_its_snapshots_and_the_rest_is_whole(vault: Vault) -> None:
    vault.declare(DAY, "shop1")
    points = vault.cut_every(MINUTES_20, 100)
    wanted = surplus([Dated(p.id, p.order, p.cut_time, p.cut_time) for p in points], DAY, ())
    assert len(wanted) > 50
    (done,) = prune(vault.store)
    assert done.removed == wanted
    left = [point for point in points if point.id not in set(wanted)]
    assert vault.points() == left
    assert len(vault.snapshots()) == 200, "the snapshots of what went are kept for another pass"
    vault.now += timedelta(minutes=10)
    (done,) = prune(vault.store)
    assert (done.removed, done.snapshots_removed) == ([], 0)
    vault.now += LOOSE
    (done,) = prune(vault.store)
    assert (done.removed, done.snapshots_removed) == ([], 2 * len(wanted))
    assert vault.snapshots() == {pair for point in left for pair in named_by(point)}
    for point in left:
        assert verify_point(vault.store, point) == []
    assert vault.cut().number == 101, "the writer noticed nothing"


@pytest.mark.thorough
def test_a_pass_killed_anywhere_leaves_no_half_point_and_ends_the_same(vault: Vault) -> None:
    vault.declare(DAY, "shop1")
    vault.cut_every(MINUTES_20, 20)
    state, before = vault.store.save(), len(vault.store.calls)
    passes(vault)
    wanted, wanted_snapshots = vault.points(), vault.snapshots()
    deletions = len(vault.store.calls) - before
    assert deletions > 20
    for at in range(deletions):
        vault.store.rollback(state)
        vault.store.script("." * at + "D")
        with pytest.raises(Unreachable):
            passes(vault)
        vault.store.heal()
        for point in vault.points():
            assert named_by(point) <= vault.snapshots()
        passes(vault)
        assert (vault.points(), vault.snapshots()) == (wanted, wanted_snapshots)


def test_nothing_goes_while_no_new_point_comes(vault: Vault) -> None:
    """Replication stopped, or a resync is under way: the last good points are all there is."""
    vault.declare(DAY, "shop1")
    vault.cut_every(MINUTES_20, 20)
    passes(vault)
    left = vault.points()
    vault.now += 60 * DAY
    passes(vault)
    assert vault.points() == left
    for point in left:
        assert verify_point(vault.store, point) == []


def test_what_a_run_chose_and_what_is_pinned_stays_with_its_snapshots(vault: Vault) -> None:
    vault.declare(timedelta(0), "shop1")
    points = vault.cut_every(HOUR, 6)
    vault.select(points[1])
    vault.store.put(names.RETENTION, names.pin_blob("shop1", points[3].id), b"{}")
    passes(vault)
    assert vault.points() == [points[1], points[3], points[5]]
    assert vault.snapshots() == {pair for p in vault.points() for pair in named_by(p)}


def test_a_point_that_is_chosen_between_its_manifest_and_its_snapshots_stays_readable(vault: Vault) -> None:
    """A run read the list just before the pass removed the manifest: it holds the snapshots from then on."""
    vault.declare(timedelta(0), "shop1")
    points = vault.cut_every(HOUR, 3)
    prune(vault.store)
    vault.select(points[0])
    vault.now += 5 * HOUR
    passes(vault)
    (disk,) = points[0].disks
    assert (disk.blob, disk.snapshot) in vault.snapshots()
    assert vault.points() == [points[2]]


def test_an_unreadable_run_or_list_ends_the_pass_before_anything_is_deleted(vault: Vault) -> None:
    vault.declare(timedelta(0), "shop1")
    points = vault.cut_every(HOUR, 3)
    vault.store.put(names.RUNS, "shop/r1/point-shop1.json", b"{")
    with pytest.raises(Corrupt) as corrupt:
        prune(vault.store)
    assert corrupt.value.code == "selection-invalid"
    vault.store.delete(names.RUNS, "shop/r1/point-shop1.json")
    vault.store.put(names.RETENTION, declared.BLOB, b"{}")
    with pytest.raises(Corrupt):
        prune(vault.store)
    assert vault.points() == points
    assert len(vault.snapshots()) == 6


def test_an_unreadable_manifest_keeps_all_snapshots_and_is_named(vault: Vault) -> None:
    vault.declare(timedelta(0), "shop1")
    points = vault.cut_every(HOUR, 3)
    vault.store.put(names.MANIFESTS, points[0].blob, b"damaged")
    vault.now += DAY
    (done,) = passes(vault)
    assert "manifest" in done.problems[0]
    assert len(vault.snapshots()) == 6


def test_an_unreadable_manifest_does_not_keep_what_is_younger_than_itself(vault: Vault) -> None:
    """Else one forged manifest of a hostile process server would fill the account for ever."""
    vault.declare(DAY, "shop1")
    before = vault.cut_every(HOUR, 3)
    vault.store.put(names.MANIFESTS, "shop1/000001-000000000900.json", b"forged", if_absent=True)
    vault.now += HOUR
    after = vault.cut_every(HOUR, 80)
    for _ in range(3):
        vault.now += 2 * HOUR
        (done,) = passes(vault)
    assert any("000000000900" in problem for problem in done.problems)
    listed = read_points(vault.store, "shop1").good
    kept = {pair for point in (*before, *listed) for pair in named_by(point)}
    assert vault.snapshots() == kept, "what it may name stays, and what manifests name; nothing else"
    assert after[0] not in listed


def test_a_forged_manifest_ages_nothing_out(vault: Vault) -> None:
    """A hostile process server claims points of 2099: of another server's snapshots, of snapshots there never were."""
    vault.declare(DAY, "shop1", "db1")
    points = vault.cut_every(MINUTES_20, 6)
    others = vault.cut_every(MINUTES_20, 2, "db1")
    vault.now += 30 * DAY
    far = datetime(2099, 1, 1, tzinfo=UTC)
    stolen = tuple(replace(disk, blob="db1/os.vhd", digests_blob="db1/os.digests") for disk in others[0].disks)
    for number, disks in ((900, stolen), (901, tuple(replace(d, snapshot="2099") for d in points[0].disks))):
        forged = replace(points[0], id=f"shop1-1-{number}", number=number, cut_time=far, created_time=far, disks=disks)
        vault.store.put(names.MANIFESTS, forged.blob, to_bytes(forged), if_absent=True)
    done = {each.server: each for each in passes(vault)}
    assert [p for p in vault.points() if p.number < 900] == points
    assert len(done["shop1"].problems) == 2
    assert vault.points("db1") == others
    for point in (*points, *others):
        assert verify_point(vault.store, point) == []


def test_a_forged_copy_of_a_manifest_takes_no_snapshot_of_the_real_one(vault: Vault) -> None:
    vault.declare(DAY, "shop1")
    points = vault.cut_every(MINUTES_20, 3)
    forged = replace(points[0], id="shop1-1-950", number=950)
    vault.store.put(names.MANIFESTS, forged.blob, to_bytes(forged), if_absent=True)
    vault.now += 3 * HOUR
    vault.cut_every(MINUTES_20, 9)
    passes(vault)
    assert points[0] in vault.points()
    assert verify_point(vault.store, points[0]) == []


def test_snapshots_of_a_cut_that_died_are_removed_only_when_a_newer_point_is_there(vault: Vault) -> None:
    vault.declare(DAY, "shop1")
    vault.cut()
    lost = (names.replica_blob("shop1", "os"), vault.store.snapshot(names.REPLICAS, "shop1/os.vhd"))
    vault.now += DAY
    passes(vault)
    assert lost in vault.snapshots(), "its manifest may still come"
    vault.cut()
    prune(vault.store)
    assert lost not in vault.snapshots()


def test_a_server_that_left_keeps_its_points_for_retention_and_grace_and_then_goes_whole(vault: Vault) -> None:
    vault.declare(2 * DAY, "shop1", "db1")
    points, others = vault.cut_every(MINUTES_20, 3), vault.cut_every(MINUTES_20, 3, "db1")
    vault.declare(2 * DAY, "db1")
    left = declared.read(vault.store)["shop1"]
    assert left.left == vault.now
    assert left.until == vault.now + 2 * DAY + declared.GRACE
    passes(vault, 1)
    until = left.until
    vault.now = until - HOUR
    passes(vault, 1)
    assert vault.points() == points
    vault.now = until
    first = {each.server: each for each in passes(vault, 1)}["shop1"]
    assert first.removed == [point.id for point in points]
    assert not first.replica_removed
    assert len(vault.snapshots()) == 6
    assert {each.server: each for each in passes(vault, 2)}["shop1"].replica_removed
    assert list(vault.store.list(names.REPLICAS, "shop1/")) == []
    assert [each.server for each in passes(vault)] == ["db1"]
    assert vault.points("db1") == others
    assert verify_point(vault.store, others[0]) == []


class NoLeaseIsBroken(MemoryBlobStore):
    """A store to a login that may delete and not write, which in Azure includes breaking a lease."""

    def break_lease(self, container: str, name: str) -> None:
        raise Refused(f"{container}/{name}: the store refused the login", code="login-refused")


def test_a_replica_whose_lease_may_not_be_broken_is_named_and_stops_nothing_else(vault: Vault) -> None:
    vault.declare(DAY, "app1", "shop1")
    vault.cut_every(MINUTES_20, 3, "app1")
    vault.cut_every(MINUTES_20, 100)
    vault.declare(DAY, "shop1")
    prune(vault.store)
    state, vault.store = vault.store.save(), NoLeaseIsBroken(lambda: vault.now)
    vault.store.rollback(state)
    replica = list(vault.store.list(names.REPLICAS, "app1/"))
    vault.now += 60 * DAY
    app1, shop1 = passes(vault)
    assert not app1.replica_removed
    assert "dr purge app1" in app1.problems[0]
    assert list(vault.store.list(names.REPLICAS, "app1/")) == replica
    assert vault.snapshots("app1") == set(), "what costs is gone"
    assert (shop1.server, shop1.problems) == ("shop1", [])


def test_a_run_holds_the_replica_of_a_server_that_left(vault: Vault) -> None:
    vault.declare(DAY, "shop1")
    points = vault.cut_every(MINUTES_20, 3)
    vault.select(points[1])
    vault.declare(DAY)
    passes(vault)
    vault.now += 60 * DAY
    passes(vault)
    assert vault.points() == [points[1]]
    assert verify_point(vault.store, points[1]) == []
    vault.store.delete(names.RUNS, "shop/r1/point-shop1.json")
    passes(vault)
    assert list(vault.store.list(names.REPLICAS)) == []


def test_a_server_that_comes_back_has_not_left_and_one_that_was_never_named_is_left_alone(vault: Vault) -> None:
    vault.declare(DAY, "shop1")
    points, strangers = vault.cut_every(MINUTES_20, 3), vault.cut_every(MINUTES_20, 3, "stranger")
    vault.declare(DAY)
    passes(vault)
    vault.now += 5 * DAY
    vault.declare(2 * DAY, "shop1")
    vault.now += 60 * DAY
    done = {each.server: each for each in passes(vault)}
    assert vault.points() == points
    assert vault.points("stranger") == strangers
    assert "never named" in done["stranger"].problems[0]
