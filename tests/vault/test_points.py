"""Recovery points read back from the vault: order, selectors, damaged manifests, proof of content."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dr.compile import names
from dr.errors import Corrupt, LifeboatError, NotFound, Refused
from dr.vault.digests import CHUNK_BYTES
from dr.vault.manifest import APP_CONSISTENT, DiskPoint, Manifest, NotFrozen, Warned, as_document, from_bytes, to_bytes
from dr.vault.memory import MemoryBlobStore
from dr.vault.points import list_points, read_points, resolve, servers
from dr.vault.replica import DiskSpec, ReplicaSet, Write
from dr.vault.verify import Mismatch, verify_point

NOW = datetime(2026, 5, 17, 12, 0, tzinfo=UTC)
SCHEMA = Path(__file__).parents[2] / "docs/formats/recovery-point.schema.json"


def point(number: int, *, epoch: int = 1, minutes_ago: int = 0, server: str = "shop1") -> Manifest:
    return Manifest(
        id=names.point_id(server, epoch, number),
        server=server,
        site="lab",
        protection_epoch=epoch,
        number=number,
        kind="crash-consistent",
        cut_time=NOW - timedelta(minutes=minutes_ago),
        created_time=NOW,
        sequence=17,
        writer_epoch=2,
        frozen=("/",),
        not_frozen=(NotFrozen("/boot/efi", "vfat can't be frozen"),),
        freeze_ms=12.5,
        firmware="bios",
        facts={"hostname": "shop1"},
        disks=(DiskPoint("os", 1 << 20, f"{server}/os.vhd", "t1", f"{server}/os.digests", "t2", "ab" * 32),),
    )


def put(store: MemoryBlobStore, *points: Manifest) -> None:
    for each in points:
        store.put(names.MANIFESTS, each.blob, to_bytes(each), if_absent=True)


def test_a_manifest_survives_its_journey_and_keeps_to_the_published_schema() -> None:
    original = point(3)
    assert from_bytes(to_bytes(original), original.blob) == original
    schema = json.loads(SCHEMA.read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(json.loads(to_bytes(original)))


def test_a_manifest_from_before_there_were_applications_is_read_as_it_was() -> None:
    document = as_document(point(3))
    del document["applications"], document["warning"]
    assert from_bytes(json.dumps(document).encode(), point(3).blob) == point(3)


def app_consistent(number: int, *, minutes_ago: int = 0) -> Manifest:
    return replace(point(number, minutes_ago=minutes_ago), kind=APP_CONSISTENT, applications=("shop-db",))


def test_what_applications_did_is_kept_in_the_manifest() -> None:
    for each in (app_consistent(3), replace(point(3), warning=Warned("application-failed", "exit code 3", "see"))):
        assert from_bytes(to_bytes(each), each.blob) == each


@pytest.mark.parametrize(
    "lie",
    [
        replace(point(3), kind=APP_CONSISTENT),
        replace(app_consistent(3), warning=Warned("application-failed", "exit code 3", "see")),
        replace(point(3), applications=("shop-db",)),
        replace(point(3), kind="consistent"),
    ],
    ids=["by nobody", "in spite of a warning", "crash-consistent by an application", "another word"],
)
def test_no_manifest_says_application_consistent_falsely(lie: Manifest) -> None:
    with pytest.raises(Corrupt):
        to_bytes(lie)


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.pop("sequence"),
        lambda d: d.update(disks=[]),
        lambda d: d.update(number="3"),
        lambda d: d.update(cut_time="yesterday"),
        lambda d: d.update(cut_time="2026-05-17T12:00:00"),
        lambda d: d.update(schema=2),
        lambda d: d.update(surprise=1),
        lambda d: d["disks"][0].update(merkle_root="XY"),
        lambda d: d.update(number=4),
    ],
)
def test_a_damaged_manifest_is_corrupt_by_name(damage: Callable[[dict[str, Any]], object]) -> None:
    document = as_document(point(3))
    damage(document)
    with pytest.raises(Corrupt) as corrupt:
        from_bytes(json.dumps(document).encode(), point(3).blob)
    assert point(3).blob in corrupt.value.message


def test_order_is_epoch_and_number_never_the_clock() -> None:
    store = MemoryBlobStore()
    put(store, point(9, minutes_ago=0), point(10, minutes_ago=50), point(2, epoch=2, minutes_ago=90))
    put(store, point(1, server="shop10"))
    assert [p.order for p in list_points(store, "shop1")] == [(2, 2), (1, 10), (1, 9)]
    assert servers(store) == ["shop1", "shop10"]


def test_a_broken_manifest_is_named_and_stops_no_other() -> None:
    store = MemoryBlobStore()
    put(store, point(1), point(3))
    store.put(names.MANIFESTS, point(2).blob, b"{")
    found = read_points(store, "shop1")
    assert [p.number for p in found.good] == [3, 1]
    assert [p.blob for p in found.broken] == [point(2).blob]
    with pytest.raises(Corrupt) as corrupt:
        list_points(store, "shop1")
    assert point(2).blob in corrupt.value.message


@pytest.mark.parametrize(
    ("selector", "number"),
    [
        ("latest", 3),
        ("latest-processed", 3),
        ("shop1-1-1", 1),
        ("2026-05-17T11:55:00Z", 2),
        ("2026-05-17T13:55:00+02:00", 2),
        ("2026-05-17T11:59:59Z", 2),
        ("2026-05-17T12:00:00Z", 3),
    ],
)
def test_selectors(selector: str, number: int) -> None:
    points = [point(1, minutes_ago=10), point(3, minutes_ago=0), point(2, minutes_ago=5)]
    assert resolve(points, selector, NOW).number == number


@pytest.mark.parametrize(
    ("selector", "error", "code"),
    [
        ("shop1-1-70", NotFound, "not-found"),
        ("2026-05-17T11:00:00Z", NotFound, "not-found"),
        ("2026-05-17T12:30:00Z", Refused, "selector-invalid"),
        ("2026-05-17T11:55:00", Refused, "selector-invalid"),
        ("newest", Refused, "selector-invalid"),
    ],
)
def test_what_selects_nothing_says_what_exists(selector: str, error: type[LifeboatError], code: str) -> None:
    points = [point(n, minutes_ago=20 - n) for n in range(1, 9)]
    with pytest.raises(error) as raised:
        resolve(points, selector, NOW)
    assert raised.value.code == code
    assert raised.value.remedy
    if error is NotFound:
        assert "shop1-1-8" in raised.value.remedy
        assert "shop1-1-1" in raised.value.remedy


def test_the_latest_application_consistent_point_is_never_another() -> None:
    points = [point(4), app_consistent(3, minutes_ago=5), app_consistent(2, minutes_ago=9), point(1, minutes_ago=20)]
    assert resolve(points, "latest-app-consistent", NOW).number == 3
    with pytest.raises(NotFound) as raised:
        resolve([point(1), point(4)], "latest-app-consistent", NOW)
    assert "no application-consistent recovery point" in raised.value.message
    assert "shop1-1-4" in raised.value.remedy


def test_no_point_at_all_is_not_found() -> None:
    with pytest.raises(NotFound):
        resolve([], "latest", NOW)


SIZE = 70 * CHUNK_BYTES + 512


@pytest.fixture
def cut() -> tuple[MemoryBlobStore, Manifest]:
    store = MemoryBlobStore()
    replica = ReplicaSet.open(
        store,
        "shop1",
        site="lab",
        protection_epoch=1,
        process_server="ps1",
        disks=[DiskSpec("os", SIZE)],
        facts={},
        clock=lambda: NOW,
    )
    replica.apply([Write("os", 5 * CHUNK_BYTES, b"x" * CHUNK_BYTES, CHUNK_BYTES)], 1)
    replica.apply([Write("os", 70 * CHUNK_BYTES, b"y" * 512, 512)], 2)
    made = replica.cut({"number": 1, "kind": "crash-consistent", "cut_time": "2026-05-17T11:59:58Z"}, 3)
    replica.apply([Write("os", 5 * CHUNK_BYTES, b"z" * CHUNK_BYTES, CHUNK_BYTES)], 4)
    replica.close()
    return store, made


def test_a_good_point_verifies(cut: tuple[MemoryBlobStore, Manifest]) -> None:
    store, made = cut
    assert verify_point(store, made) == []
    assert list_points(store, "shop1") == [made]


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (5 * CHUNK_BYTES + 77, Mismatch("os", 5 * CHUNK_BYTES, CHUNK_BYTES, "content")),
        (20 * CHUNK_BYTES, Mismatch("os", 20 * CHUNK_BYTES, CHUNK_BYTES, "content")),
        (70 * CHUNK_BYTES, Mismatch("os", 70 * CHUNK_BYTES, 512, "content")),
        (SIZE, Mismatch("os", SIZE, 5 * (1 << 20) - SIZE, "padding")),
        (5 * (1 << 20) + 500, Mismatch("os", 5 * (1 << 20), 512, "footer")),
    ],
)
def test_one_changed_byte_is_found(cut: tuple[MemoryBlobStore, Manifest], at: int, expected: Mismatch) -> None:
    store, made = cut
    state = store.save()
    snapshot = state[names.REPLICAS, made.disks[0].blob].snapshots[made.disks[0].snapshot]
    snapshot.data.write(at, bytes([snapshot.data.read(at, 1)[0] ^ 1]))
    assert snapshot.pages is not None
    snapshot.pages[at // 512] = 1
    store.rollback(state)
    assert verify_point(store, made) == [expected]


def test_a_digest_table_that_fits_forged_content_still_breaks_the_root(
    cut: tuple[MemoryBlobStore, Manifest],
) -> None:
    store, made = cut
    forged = replace(made, disks=(replace(made.disks[0], merkle_root="00" * 32),))
    assert verify_point(store, forged) == [Mismatch("os", 0, 0, "merkle root")]
