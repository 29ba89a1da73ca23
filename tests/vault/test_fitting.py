"""Disks that grow, join and leave: the replica follows and claims nothing of what is new, also after a crash."""

from __future__ import annotations

import pytest

from dr.compile import names
from dr.errors import Conflict, Unreachable
from dr.vault import vhd
from dr.vault.digests import CHUNK_BYTES
from dr.vault.manifest import Manifest
from dr.vault.memory import MemoryBlobStore
from dr.vault.points import list_points
from dr.vault.replica import DiskSpec, ReplicaSet
from dr.vault.verify import verify_point
from tests.vault.test_replica import DISKS, assert_digests_are_true, content, cut_info, open_replica, pages, write

OS, DATA = DISKS
SIZES = [
    DATA.size_bytes + 512,  # within the same MiB: the footer stays where it is
    (1 << 20) + 512,  # the footer moves
    (2 << 20) + CHUNK_BYTES,  # the table needs another page
]


def grown(size_bytes: int) -> tuple[DiskSpec, ...]:
    return (OS, DiskSpec("data", size_bytes))


@pytest.fixture
def store() -> MemoryBlobStore:
    return with_a_point()


def with_a_point() -> MemoryBlobStore:
    """Return a store with a replica at position 5 and one point of it."""
    store = MemoryBlobStore()
    replica = open_replica(store)
    replica.apply([write("os", 1, content(1, 3)), write("data", 0, content(2, 3))], 4)
    replica.cut(cut_info(1), 5)
    replica.close()
    return store


def send_all(replica: ReplicaSet, disk: DiskSpec, first: int = 0) -> None:
    """Send a disk from chunk `first` on, as a resync does with what is unknown."""
    writes = []
    for chunk in range(first, -(-disk.size_bytes // CHUNK_BYTES)):
        length = min(CHUNK_BYTES, disk.size_bytes - chunk * CHUNK_BYTES)
        writes.append(write(disk.name, chunk, content(100 + chunk)[:length] if chunk % 3 else None, length))
    replica.apply(writes, replica.sequence + 1)


def opens(store: MemoryBlobStore, disks: tuple[DiskSpec, ...], script: str) -> bool:
    """Open the replica while the store does as the script says; tell whether that worked. It is whole afterwards."""
    store.script(script)
    try:
        open_replica(store, disks=disks).close()
    except Unreachable:
        return False
    finally:
        store.heal()
    return True


def footer_of(store: MemoryBlobStore, disk: DiskSpec) -> vhd.Footer:
    at = vhd.padded_size(disk.size_bytes)
    return vhd.parse_footer(store.read(names.REPLICAS, names.replica_blob("shop1", disk.name), at, vhd.FOOTER_BYTES))


@pytest.mark.parametrize("size_bytes", SIZES)
def test_a_disk_that_grew_is_followed_and_its_older_points_stay(store: MemoryBlobStore, size_bytes: int) -> None:
    disks = grown(size_bytes)
    replica = open_replica(store, disks=disks)
    assert replica.sequence == 5 and replica.unknown_chunks > 0
    with pytest.raises(Conflict) as nothing_claimed:
        replica.cut(cut_info(2), 6)
    assert nothing_claimed.value.code == "digests-unknown"
    assert footer_of(store, disks[1]).size_bytes == vhd.padded_size(size_bytes)
    assert_digests_are_true(store, disks)
    assert pages(store, DATA) == content(2, 3)
    send_all(replica, disks[1], first=DATA.size_bytes // CHUNK_BYTES)
    point = replica.cut(cut_info(2), replica.sequence + 1)
    assert {disk.name: disk.size_bytes for disk in point.disks} == {"os": OS.size_bytes, "data": size_bytes}
    assert verify_point(store, point) == []
    assert verify_point(store, first_point(store)) == []
    replica.close()
    again = open_replica(store, disks=disks)
    assert again.unknown_chunks == 0 and again.sequence == replica.sequence
    again.close()


def first_point(store: MemoryBlobStore) -> Manifest:
    return list_points(store, "shop1")[-1]


@pytest.mark.thorough
@pytest.mark.parametrize("size_bytes", SIZES)
@pytest.mark.parametrize("fault", ["D", "A"])
def test_a_crash_at_every_step_of_growing_claims_nothing(size_bytes: int, fault: str) -> None:
    disks = grown(size_bytes)
    for nth in range(100):
        store = with_a_point()
        survived = opens(store, disks, "." * nth + fault)
        healed = open_replica(store, disks=disks)
        assert_digests_are_true(store, disks)
        assert healed.unknown_chunks > 0
        assert footer_of(store, disks[1]).size_bytes == vhd.padded_size(size_bytes)
        send_all(healed, disks[1], first=DATA.size_bytes // CHUNK_BYTES)
        assert verify_point(store, healed.cut(cut_info(2), healed.sequence + 1)) == []
        assert verify_point(store, first_point(store)) == []
        healed.close()
        if survived:
            assert nth > 5
            return
    pytest.fail("the script never ended")


def test_a_disk_that_joins_begins_at_the_others_position_and_is_unknown(store: MemoryBlobStore) -> None:
    logs = DiskSpec("logs", 2 << 20)
    replica = open_replica(store, disks=(*DISKS, logs))
    assert replica.sequence == 5 and replica.unknown_chunks == 32
    send_all(replica, logs)
    assert verify_point(store, replica.cut(cut_info(2), replica.sequence + 1)) == []
    replica.close()


def test_a_disk_that_left_is_in_no_further_point_and_comes_back_unknown(store: MemoryBlobStore) -> None:
    replica = open_replica(store, disks=(OS,))
    point = replica.cut(cut_info(2), replica.sequence + 1)
    assert [disk.name for disk in point.disks] == ["os"] and verify_point(store, point) == []
    replica.apply([write("os", 2, content(9))], replica.sequence + 1)
    sequence = replica.sequence
    replica.close()
    assert verify_point(store, first_point(store)) == []
    back = open_replica(store)
    assert back.sequence == sequence and back.unknown_chunks == 3
    send_all(back, DATA)
    assert verify_point(store, back.cut(cut_info(3), back.sequence + 1)) == []
    back.close()


LOGS = DiskSpec("logs", 2 << 20)


def left_and_wrote_on(store: MemoryBlobStore) -> None:
    """Disk `data` leaves, and the other one is written: what is stored of `data` is of an older time."""
    replica = open_replica(store, disks=(OS,))
    replica.apply([write("os", 2, content(9))], replica.sequence + 1)
    replica.close()


@pytest.mark.thorough
@pytest.mark.parametrize("fault", ["D", "A"])
@pytest.mark.parametrize("comes", ["anew", "back"])
def test_a_crash_at_every_step_of_joining_claims_nothing(comes: str, fault: str) -> None:
    joins = LOGS if comes == "anew" else DATA
    disks = (*DISKS, LOGS) if comes == "anew" else DISKS
    for nth in range(100):
        store = with_a_point()
        if comes == "back":
            left_and_wrote_on(store)
        survived = opens(store, disks, "." * nth + fault)
        healed = open_replica(store, disks=disks)
        assert healed.sequence == (5 if comes == "anew" else 6)
        assert healed.unknown_chunks == -(-joins.size_bytes // CHUNK_BYTES)
        with pytest.raises(Conflict) as nothing_claimed:
            healed.cut(cut_info(2), healed.sequence + 1)
        assert nothing_claimed.value.code == "digests-unknown"
        send_all(healed, joins)
        assert verify_point(store, healed.cut(cut_info(2), healed.sequence + 1)) == []
        healed.close()
        again = open_replica(store, disks=disks)
        assert again.unknown_chunks == 0
        again.close()
        if survived:
            assert nth > 5
            return
    pytest.fail("the script never ended")
