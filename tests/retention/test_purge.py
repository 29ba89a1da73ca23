"""`dr purge`: what it refuses, what it removes, and that it can be stopped anywhere."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dr.compile import names
from dr.errors import Conflict, Degraded, NotFound, Refused, Unreachable
from dr.retention.purge import purge, survey
from dr.vault import declared
from dr.vault.memory import MemoryBlobStore
from dr.vault.verify import verify_point
from tests.retention.vaults import Vault

STEP, DAY = timedelta(minutes=20), timedelta(days=1)


@pytest.fixture
def left(vault: Vault) -> Vault:
    """`shop1` has left the declaration, `db1` has not."""
    vault.declare(DAY, "shop1", "db1")
    vault.cut_every(STEP, 3)
    vault.cut_every(STEP, 3, "db1")
    vault.declare(DAY, "db1")
    return vault


def everything_of(store: MemoryBlobStore, server: str) -> list[str]:
    containers = (names.REPLICAS, names.MANIFESTS, names.RETENTION)
    return [name for container in containers for name in store.list(container) if f"{server}/" in name]


def test_it_says_what_is_lost_and_removes_just_that(left: Vault) -> None:
    left.store.put(names.RETENTION, names.pin_blob("shop1", "shop1-1-1"), b"{}")
    loss = survey(left.store, "shop1")
    assert (loss.points, loss.pinned, loss.replicas) == (3, 1, ("shop1/os.vhd",))
    assert loss.oldest is not None
    assert loss.newest is not None
    assert loss.oldest < loss.newest
    assert purge(left.store, "shop1") == loss
    assert everything_of(left.store, "shop1") == []
    assert set(declared.read(left.store)) == {"db1"}
    assert len(left.points("db1")) == 3
    assert verify_point(left.store, left.points("db1")[0]) == []
    with pytest.raises(NotFound):
        survey(left.store, "shop1")


def test_a_protected_server_and_one_that_a_run_holds_are_refused(left: Vault) -> None:
    with pytest.raises(Refused) as refused:
        purge(left.store, "db1")
    assert refused.value.code == "still-protected"
    left.select(left.points("shop1")[0])
    with pytest.raises(Refused) as refused:
        purge(left.store, "shop1")
    assert refused.value.code == "point-in-use"
    assert len(left.points("shop1")) == len(left.points("db1")) == 3


def test_a_vault_without_its_list_is_refused(left: Vault) -> None:
    left.store.delete(names.RETENTION, declared.BLOB)
    for server in ("shop1", "db1"):
        with pytest.raises(Refused) as refused:
            purge(left.store, server)
        assert refused.value.code == "list-missing" and "pulumi up" in refused.value.remedy
    assert len(left.points("shop1")) == len(left.points("db1")) == 3


def test_stopped_anywhere_it_leaves_no_half_point_and_a_second_call_ends_it(left: Vault) -> None:
    state = left.store.save()
    for at in range(20):
        left.store.rollback(state)
        left.store.script("." * at + "D")
        try:
            purge(left.store, "shop1")
        except Unreachable:
            left.store.heal()
            for point in left.points("shop1"):
                assert verify_point(left.store, point) == []
            purge(left.store, "shop1")
        assert everything_of(left.store, "shop1") == []
    assert at > 10


class Immutable(MemoryBlobStore):
    """A store whose immutability policy keeps one manifest."""

    kept = names.manifest_blob("shop1", 1, 2)

    def delete(self, container: str, name: str) -> None:
        if name == self.kept:
            raise Conflict(f"{name} is immutable", code="immutable")
        super().delete(container, name)


def test_what_the_store_keeps_keeps_its_replica(left: Vault) -> None:
    store = Immutable()
    store.rollback(left.store.save())
    with pytest.raises(Degraded) as degraded:
        purge(store, "shop1")
    assert degraded.value.code == "immutable"
    left.store.rollback(store.save())
    (point,) = left.points("shop1")
    assert verify_point(left.store, point) == []
    store.kept = ""
    purge(store, "shop1")
    assert everything_of(store, "shop1") == []
