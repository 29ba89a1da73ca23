"""The points that a group shares: whole or not at all, in one order, whatever manifests there are."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dr.compile import names
from dr.errors import Corrupt, NotFound, Refused
from dr.process_server.admission import is_plain
from dr.vault.drafting import Origin, draft_manifest
from dr.vault.manifest import Manifest, Sharing, as_document, from_bytes, to_bytes
from dr.vault.memory import MemoryBlobStore
from dr.vault.shared import choose, read_shared, shared_points
from tests.vault.test_points import NOW, point, put

MEMBERS = ("db1", "shop1", "web1")
TIME = "2026-01-02T03:04:05.000Z"


def part(server: str, number: int, shared: int, members: tuple[str, ...] = MEMBERS, minutes_ago: int = 0) -> Manifest:
    made = point(number, server=server, minutes_ago=minutes_ago)
    return replace(made, group=Sharing("shop", f"{shared:016x}", members, NOW - timedelta(minutes=minutes_ago)))


def whole(number: int, shared: int, members: tuple[str, ...] = MEMBERS, minutes_ago: int = 0) -> list[Manifest]:
    return [part(server, number, shared, members, minutes_ago) for server in members]


def by_server(manifests: Iterable[Manifest]) -> dict[str, list[Manifest]]:
    found: dict[str, list[Manifest]] = {}
    for manifest in manifests:
        found.setdefault(manifest.server, []).append(manifest)
    return found


def ids(manifests: Iterable[Manifest]) -> list[int]:
    return [int(each.id, 16) for each in shared_points(by_server(manifests), "shop")]


def test_a_manifest_keeps_what_it_shares_and_one_of_before_shares_nothing() -> None:
    made = part("shop1", 3, 1)
    assert from_bytes(to_bytes(made), made.blob) == made
    old = as_document(point(3))
    del old["group"]
    assert from_bytes(json.dumps(old).encode(), point(3).blob).group is None


@pytest.mark.parametrize(
    "group",
    [
        {"name": "shop", "id": "x", "members": ["db1", "shop1"], "time": TIME},
        {"name": "shop", "id": "0" * 16, "members": ["shop1"], "time": TIME},
        {"name": "shop", "id": "0" * 16, "members": ["db1", "web1"], "time": TIME},
        {"name": "shop", "id": "0" * 16, "members": ["shop1", "shop1"], "time": TIME},
        {"name": "shop", "id": "0" * 16, "members": [f"s{n}" for n in range(17)], "time": TIME},
        {"name": "Shop\n", "id": "0" * 16, "members": ["db1", "shop1"], "time": TIME},
        {"name": "shop", "id": "0" * 16, "members": ["db1", "shop1"]},
        {"name": "shop", "id": "0" * 16, "members": ["db1", "shop1"], "time": "yesterday"},
        {"id": "0" * 16},
        "shop",
    ],
)
def test_what_an_agent_says_of_a_group_is_not_taken_for_granted(group: object) -> None:
    cut = {"number": 3, "kind": "crash-consistent", "cut_time": "2026-01-02T03:04:05.000Z", "group": group}
    with pytest.raises(Refused) as refused:
        draft_manifest(Origin("shop1", "lab", 1, 1, {}), cut, sequence=3, now=NOW, disks=point(3).disks)
    assert refused.value.code == "cut-invalid"


def test_a_cut_of_a_group_is_never_folded() -> None:
    assert is_plain({"kind": "crash-consistent", "requested": None, "group": None})
    assert not is_plain({"kind": "crash-consistent", "group": {"name": "shop"}})


def test_half_a_point_is_shared_by_nobody() -> None:
    first, second = whole(1, 1), whole(2, 2)
    assert ids(first + second) == [2, 1]
    for lost in second:
        assert ids([each for each in first + second if each is not lost]) == [1]


def test_who_says_something_else_shares_nothing() -> None:
    other = replace(part("web1", 2, 2), group=Sharing("shop", f"{2:016x}", ("shop1", "web1"), NOW))
    assert ids([*whole(1, 1), *whole(2, 2)[:2], other]) == [1]
    twice = part("web1", 3, 2)
    assert ids([*whole(2, 2), twice]) == []
    elsewhere = [replace(each, group=Sharing("other", f"{2:016x}", MEMBERS, NOW)) for each in whole(2, 2)]
    assert ids([*whole(1, 1), *elsewhere]) == [1]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 12))
def test_the_order_is_that_of_the_points_never_that_of_clocks(seed: int, count: int) -> None:
    chance = random.Random(seed)
    manifests = []
    for number in range(1, count + 1):
        for made in whole(number * 7, number):
            late = timedelta(seconds=chance.uniform(-1e6, 1e6))
            manifests.append(replace(made, cut_time=made.cut_time + late))
            manifests.append(point(number * 7 + 1, server=made.server))  # points of its own in between
    chance.shuffle(manifests)
    assert ids(manifests) == list(range(count, 0, -1))


def test_who_joined_later_waits_for_the_next_point_of_all() -> None:
    two = whole(1, 1, ("db1", "shop1"), minutes_ago=10)
    found = shared_points(by_server(two), "shop")
    with pytest.raises(NotFound) as missing:
        choose(found, "shop", MEMBERS, None)
    assert missing.value.code == "no-shared-point"
    assert "web1 joined after the newest one" in missing.value.message
    found = shared_points(by_server(two + whole(2, 2, minutes_ago=5)), "shop")
    assert choose(found, "shop", MEMBERS, None).id == f"{2:016x}"
    assert choose(found, "shop", ("db1", "shop1"), NOW - timedelta(minutes=7)).id == f"{1:016x}"
    with pytest.raises(NotFound, match="that is so old"):
        choose(found, "shop", MEMBERS, NOW - timedelta(minutes=7))


def test_the_vault_alone_tells_and_a_damaged_part_shares_nothing() -> None:
    store = MemoryBlobStore()
    put(store, *whole(1, 1), *whole(2, 2))
    damaged = part("web1", 3, 3)
    put(store, *whole(3, 3)[:2])
    store.put(names.MANIFESTS, damaged.blob, to_bytes(damaged)[:-20], if_absent=True)
    read, found = read_shared(store, "shop", ["db1", "shop1"])  # web1 left the group, and its part still counts
    assert [each.id for each in found] == [f"{2:016x}", f"{1:016x}"]
    assert [broken.blob for broken in read["web1"].broken] == [damaged.blob]
    store.delete(names.MANIFESTS, part("web1", 2, 2).blob)
    assert [each.id for each in read_shared(store, "shop", MEMBERS)[1]] == [f"{1:016x}"]


def test_a_manifest_of_a_group_that_it_is_no_member_of_cannot_be_read() -> None:
    document = as_document(part("shop1", 1, 1))
    document["group"]["members"] = ["db1", "web1"]
    with pytest.raises(Corrupt, match="none of its members"):
        from_bytes(json.dumps(document).encode(), part("shop1", 1, 1).blob)
