"""The replica's writer on the memory store: what it stores, refuses, and survives."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from dr.compile import names
from dr.errors import Conflict, Refused, Unreachable
from dr.vault import vhd
from dr.vault.digests import CHUNK_BYTES, UNKNOWN, digest
from dr.vault.memory import MemoryBlobStore
from dr.vault.opening import read_table
from dr.vault.replica import DiskSpec, ReplicaSet, Write

NOW = datetime(2026, 5, 17, 9, 30, tzinfo=UTC)
DISKS = (DiskSpec("os", 20 * CHUNK_BYTES + 1536), DiskSpec("data", 3 * CHUNK_BYTES))
FACTS = {"firmware": "uefi", "hostname": "shop1"}


def open_replica(store: MemoryBlobStore, **changes: Any) -> ReplicaSet:
    options: dict[str, Any] = {
        "site": "lab",
        "protection_epoch": 1,
        "process_server": "ps1",
        "disks": DISKS,
        "facts": FACTS,
        "clock": lambda: NOW,
    }
    return ReplicaSet.open(store, "shop1", **{**options, **changes})


def content(seed: int, chunks: int = 1) -> bytes:
    piece = hashlib.sha256(str(seed).encode()).digest()
    return piece * (chunks * CHUNK_BYTES // len(piece))


def write(disk: str, chunk: int, payload: bytes | None, length: int = CHUNK_BYTES) -> Write:
    return Write(disk, chunk * CHUNK_BYTES, payload, len(payload) if payload is not None else length)


def cut_info(number: int) -> dict[str, Any]:
    return {"number": number, "kind": "crash-consistent", "cut_time": "2026-05-17T09:29:58Z", "frozen": ["/"]}


@pytest.fixture
def store() -> MemoryBlobStore:
    return MemoryBlobStore()


@pytest.fixture
def replica(store: MemoryBlobStore) -> Iterator[ReplicaSet]:
    opened = open_replica(store)
    yield opened
    opened.close()


def pages(store: MemoryBlobStore, disk: DiskSpec) -> bytes:
    return store.read(names.REPLICAS, names.replica_blob("shop1", disk.name), 0, disk.size_bytes)


def assert_digests_are_true(store: MemoryBlobStore, disks: Sequence[DiskSpec] = DISKS) -> None:
    """Every entry that claims something must be the digest of what the pages hold."""
    for disk in disks:
        table, held = read_table(store, "shop1", disk), pages(store, disk)
        for chunk in range(table.chunks):
            entry = table.entry(chunk)
            if entry != UNKNOWN:
                assert entry == digest(held[chunk * CHUNK_BYTES : (chunk + 1) * CHUNK_BYTES]), (disk.name, chunk)


def test_a_new_replica_is_a_valid_vhd_with_nothing_claimed(store: MemoryBlobStore, replica: ReplicaSet) -> None:
    assert (replica.writer_epoch, replica.sequence, replica.unknown_chunks) == (1, 0, 0)
    blob = names.replica_blob("shop1", "os")
    size = vhd.padded_size(DISKS[0].size_bytes)
    footer = vhd.parse_footer(store.read(names.REPLICAS, blob, size, vhd.FOOTER_BYTES))
    assert footer.size_bytes == size
    assert footer.unique_id == vhd.unique_id("shop1", "os")
    assert list(store.page_ranges(names.REPLICAS, blob)) == [(size, 512)]


def test_a_batch_is_stored_later_writes_win_and_zeros_are_cleared(store: MemoryBlobStore, replica: ReplicaSet) -> None:
    tail = bytes(range(256)) * 6
    batch = [
        write("os", 2, content(1, 4)),
        write("os", 3, content(2)),
        write("os", 4, bytes(CHUNK_BYTES)),
        write("os", 20, tail),
        write("data", 1, content(3)),
        write("data", 2, None),
    ]
    replica.apply(batch, 7)
    expected = bytearray(DISKS[0].size_bytes)
    expected[2 * CHUNK_BYTES : 6 * CHUNK_BYTES] = content(1, 4)
    expected[3 * CHUNK_BYTES : 4 * CHUNK_BYTES] = content(2)
    expected[4 * CHUNK_BYTES : 5 * CHUNK_BYTES] = bytes(CHUNK_BYTES)
    expected[20 * CHUNK_BYTES :] = tail
    assert pages(store, DISKS[0]) == expected
    assert pages(store, DISKS[1]) == bytes(CHUNK_BYTES) + content(3) + bytes(CHUNK_BYTES)
    assert replica.sequence == 7
    assert_digests_are_true(store)
    store.calls.clear()
    replica.apply([write("os", 3, content(2)), write("data", 2, None)], 8)
    assert {call for call, _ in store.calls} == {"set_metadata"}, "what is stored already is not stored again"


def test_the_order_of_a_batch(store: MemoryBlobStore, replica: ReplicaSet) -> None:
    store.calls.clear()
    replica.apply([write("data", 0, content(1))], 1)
    pages_, digests = (f"replicas/shop1/data.{kind}" for kind in ("vhd", "digests"))
    assert store.calls[:3] == [("write_pages", digests), ("write_pages", pages_), ("write_pages", digests)]
    assert {call for call, _ in store.calls[3:]} == {"set_metadata"}


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (Write("os", 512, content(1), CHUNK_BYTES), "unaligned"),
        (Write("os", 0, bytes(512), 512), "unaligned"),
        (Write("os", 0, content(1), 2 * CHUNK_BYTES), "unaligned"),
        (Write("os", 20 * CHUNK_BYTES, None, CHUNK_BYTES), "out-of-range"),
        (Write("swap", 0, None, CHUNK_BYTES), "unknown-disk"),
    ],
)
def test_bad_writes_are_refused_by_name(replica: ReplicaSet, bad: Write, code: str) -> None:
    with pytest.raises(Refused) as refused:
        replica.apply([bad], 1)
    assert refused.value.code == code
    replica.apply([], 1)


def test_a_cut_names_snapshots_and_roots(store: MemoryBlobStore, replica: ReplicaSet) -> None:
    replica.apply([write("os", 2, content(1))], 3)
    point = replica.cut(cut_info(1), 4)
    replica.apply([write("os", 2, content(9))], 5)
    kept = store.read(
        names.REPLICAS, point.disks[0].blob, 2 * CHUNK_BYTES, CHUNK_BYTES, snapshot=point.disks[0].snapshot
    )
    assert kept == content(1)
    assert (point.id, point.sequence, point.firmware, replica.sequence) == ("shop1-1-1", 4, "uefi", 5)
    with pytest.raises(Conflict) as conflict:
        replica.cut(cut_info(1), 6)
    assert conflict.value.code == "point-exists"


def test_a_stale_writer_changes_nothing(store: MemoryBlobStore, replica: ReplicaSet) -> None:
    replica.apply([write("os", 2, content(1))], 3)
    newer = open_replica(store, process_server="ps2")
    assert (newer.writer_epoch, newer.sequence) == (2, 3)
    before = pages(store, DISKS[0])
    for call in (
        lambda: replica.apply([write("os", 2, content(5))], 4),
        lambda: replica.cut(cut_info(1), 4),
        replica.check_lease,
    ):
        with pytest.raises(Conflict) as conflict:
            call()
        assert conflict.value.code == "writer-changed"
    assert pages(store, DISKS[0]) == before
    newer.apply([write("os", 2, content(6))], 4)
    newer.close()


def test_fenced_and_changed_disks_are_refused_before_anything_changes(store: MemoryBlobStore) -> None:
    open_replica(store, protection_epoch=2).close()
    before = list(store.calls)
    with pytest.raises(Refused) as fenced:
        open_replica(store, protection_epoch=1)
    smaller = (DISKS[0], DiskSpec("data", DISKS[1].size_bytes - 512))
    with pytest.raises(Conflict) as changed:
        open_replica(store, protection_epoch=2, disks=smaller)
    assert "another name in the declaration" in changed.value.remedy
    assert (fenced.value.code, changed.value.code) == ("fenced", "disks-changed")
    assert store.calls == before


def test_crash_at_every_call_leaves_digests_that_never_claim_too_much(store: MemoryBlobStore) -> None:
    """Go down at the nth changing call of open, batch and cut; reopen, check, finish the work."""
    first = [write("os", 1, content(1, 3)), write("data", 0, content(2))]
    second = [write("os", 1, content(3)), write("os", 2, None), write("data", 0, content(4, 2))]
    for nth in range(1, 200):
        store = MemoryBlobStore()
        store.script("." * (nth - 1) + "D")
        survived = False
        try:
            replica = open_replica(store)
            replica.apply(first, 1)
            replica.apply(second, 2)
            replica.cut(cut_info(1), 3)
            survived = True
        except Unreachable:
            pass
        store.heal()
        if any(store.list(names.REPLICAS)):
            healed = open_replica(store)
            assert_digests_are_true(store)
            if healed.sequence >= 2:
                assert healed.unknown_chunks == 0
                assert pages(store, DISKS[1]) == content(4, 2) + bytes(CHUNK_BYTES)
            if not list(store.list(names.MANIFESTS)):
                healed.apply(first, max(1, healed.sequence))
                healed.apply(second, max(2, healed.sequence))
                healed.cut(cut_info(1), 3)
            assert pages(store, DISKS[1]) == content(4, 2) + bytes(CHUNK_BYTES)
            assert_digests_are_true(store)
            healed.close()
        if survived:
            assert nth > 20
            return
    pytest.fail("the script never ended")


@pytest.mark.parametrize("fault", ["E", "A"])
def test_the_same_call_repeated_after_a_failed_request_heals(fault: str) -> None:
    """One request fails (E) or its answer is lost (A) at every place; the caller repeats the very same call."""
    nth = 0
    while True:
        store = MemoryBlobStore()
        replica = open_replica(store)
        opened = len(store.calls)
        store.script("." * nth + fault)
        tries = 0
        steps: list[Callable[[], object]] = [
            partial(replica.apply, [write("os", 1, content(1, 3)), write("data", 0, content(2))], 1),
            partial(replica.apply, [write("os", 2, content(3)), write("data", 0, None)], 2),
            partial(replica.cut, cut_info(1), 3),
        ]
        for step in steps:
            while True:
                try:
                    tries += 1
                    step()
                    break
                except Unreachable as err:
                    assert err.code == "store-unavailable"
        assert replica.sequence == 3
        assert_digests_are_true(store)
        assert pages(store, DISKS[1]) == bytes(DISKS[1].size_bytes)
        assert list(store.list(names.MANIFESTS)) == [names.manifest_blob("shop1", 1, 1)]
        replica.close()
        if tries == 3:
            assert nth >= len(store.calls) - opened
            return
        nth += 1


def test_a_store_that_went_back_is_a_named_state(store: MemoryBlobStore, replica: ReplicaSet) -> None:
    replica.apply([write("os", 1, content(1))], 1)
    state = store.save()
    assert replica.verify_position()
    replica.apply([write("os", 1, content(2))], 2)
    store.rollback(state)
    assert not replica.verify_position()
    for call in (lambda: replica.apply([write("os", 3, content(3))], 3), lambda: replica.cut(cut_info(1), 3)):
        with pytest.raises(Conflict) as conflict:
            call()
        assert conflict.value.code == "store-went-back"
    healed = open_replica(store)
    assert healed.sequence == 1
    healed.apply([write("os", 1, content(2))], 3)
    healed.cut(cut_info(1), 4)
    healed.close()


def test_a_store_that_went_back_while_it_was_down(store: MemoryBlobStore, replica: ReplicaSet) -> None:
    replica.apply([write("os", 1, content(1))], 1)
    state = store.save()
    replica.apply([write("os", 1, content(2))], 2)
    store.script("..D")
    with pytest.raises(Unreachable):
        replica.apply([write("os", 1, content(3))], 3)
    store.heal()
    store.rollback(state)
    with pytest.raises(Conflict) as conflict:
        replica.apply([write("os", 1, content(3))], 3)
    assert conflict.value.code == "store-went-back"


def test_digests_that_went_back_alone_are_forgotten_at_the_opening(store: MemoryBlobStore, replica: ReplicaSet) -> None:
    """A, B, A on the disk: digests of the first A beside pages of B would let the second A pass as stored."""
    replica.apply([write("os", 1, content(1))], 1)
    state = store.save()
    replica.apply([write("os", 1, content(2))], 2)
    store.rollback(state, names.digests_blob("shop1", "os"))
    again = open_replica(store)
    assert (again.sequence, again.distrusted) == (2, True)
    assert_digests_are_true(store)
    again.close()
    once_more = open_replica(store)
    assert once_more.distrusted, "until somebody sends"
    once_more.apply([write("os", chunk, None) for chunk in range(20)], 3)
    assert not once_more.distrusted
    once_more.close()


def test_digests_that_go_back_alone_under_a_writer_are_noticed(store: MemoryBlobStore, replica: ReplicaSet) -> None:
    replica.apply([write("os", 1, content(1))], 1)
    state = store.save()
    replica.apply([write("os", 1, content(2))], 2)
    store.rollback(state, names.digests_blob("shop1", "os"))
    with pytest.raises(Conflict) as conflict:
        replica.apply([write("os", 1, content(1))], 3)
    assert conflict.value.code == "store-went-back"


def test_digests_that_went_back_alone_while_the_store_was_down(store: MemoryBlobStore, replica: ReplicaSet) -> None:
    replica.apply([write("os", 1, content(1))], 1)
    state = store.save()
    replica.apply([write("os", 1, content(2))], 2)
    store.script("D")
    with pytest.raises(Unreachable):
        replica.apply([write("os", 1, content(3))], 3)
    store.heal()
    store.rollback(state, names.digests_blob("shop1", "os"))
    with pytest.raises(Conflict) as conflict:
        replica.apply([write("os", 1, content(3))], 3)
    assert conflict.value.code == "store-went-back"


def test_a_new_protection_epoch_counts_positions_from_zero(store: MemoryBlobStore, replica: ReplicaSet) -> None:
    replica.apply([write("os", 1, content(1))], 41)
    newer = open_replica(store, protection_epoch=2)
    assert (newer.sequence, newer.writer_epoch) == (0, 2)
    assert not newer.empty, "the pages of the earlier one are there"
    newer.apply([write("os", 1, None)], 1)
    newer.close()
    again = open_replica(store, protection_epoch=3)
    assert again.empty, "what was cleared is zeros"
    again.close()


def test_only_a_replica_whose_pages_are_all_known_to_be_zeros_is_empty(
    store: MemoryBlobStore, replica: ReplicaSet
) -> None:
    assert replica.empty
    store.script("..D")  # the page is written, and nobody knows
    with pytest.raises(Unreachable):
        replica.apply([write("os", 1, content(1))], 1)
    store.heal()
    again = open_replica(store)
    assert (again.sequence, again.empty) == (0, False)
    again.close()


def test_unknown_digests_forbid_a_point(store: MemoryBlobStore, replica: ReplicaSet) -> None:
    store.script("..D")
    with pytest.raises(Unreachable):
        replica.apply([write("os", 1, content(3))], 3)
    store.heal()
    with pytest.raises(Conflict) as conflict:
        replica.cut(cut_info(1), 4)
    assert conflict.value.code == "digests-unknown"
    replica.apply([write("os", 1, content(3))], 3)
    replica.cut(cut_info(1), 4)


@pytest.mark.parametrize(
    "wrong",
    [
        {"number": None},
        {"number": 0},
        {"kind": ""},
        {"cut_time": "noon"},
        {"cut_time": 5},
        {"not_frozen": ["swap"]},
        {"freeze_ms": -1},
        {"firmware": "openboot"},
        {"facts": 7},
    ],
)
def test_a_cut_that_makes_no_manifest_is_refused_before_snapshots(
    store: MemoryBlobStore, replica: ReplicaSet, wrong: dict[str, Any]
) -> None:
    store.calls.clear()
    with pytest.raises(Refused) as refused:
        replica.cut({**cut_info(1), **wrong}, 1)
    assert refused.value.code == "cut-invalid"
    assert store.calls == []
    replica.cut(cut_info(1), 1)


def test_two_openers_at_once_never_both_win() -> None:
    """Whatever the interleaving, at most one can still write, and its pages and digests agree."""
    for _ in range(30):
        store = MemoryBlobStore()
        open_replica(store).close()
        opened: list[ReplicaSet] = []

        def attempt(name: str, store: MemoryBlobStore = store, opened: list[ReplicaSet] = opened) -> None:
            try:
                opened.append(open_replica(store, process_server=name))
            except Conflict as err:
                assert err.code == "writer-changed"

        threads = [threading.Thread(target=attempt, args=(f"ps{n}",)) for n in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wrote = []
        for number, replica in enumerate(opened):
            try:
                replica.apply([write("os", 1, content(number))], 1)
                wrote.append(number)
            except Conflict as err:
                assert err.code == "writer-changed"
            replica.close()
        assert len(wrote) <= 1
        assert_digests_are_true(store)
        last = open_replica(store)
        last.apply([write("os", 1, content(9))], 2)
        last.close()


def test_a_writer_that_slept_between_snapshots_and_manifest_cuts_again(store: MemoryBlobStore) -> None:
    """Retention may have taken the snapshots for orphans meanwhile: naming them would list half a point."""
    times = [NOW]
    replica = open_replica(store, clock=lambda: times.pop(0) if len(times) > 1 else times[0])
    times[:] = [NOW, NOW, NOW + timedelta(hours=2)]  # the draft, the beginning, the end
    with pytest.raises(Unreachable):
        replica.cut(cut_info(1), 1)
    assert list(store.list(names.MANIFESTS)) == []
    point = replica.cut(cut_info(1), 1)
    assert [point.blob] == list(store.list(names.MANIFESTS))
    replica.close()
