"""One point for all members of a group in one run: chosen once, kept, and refused where there is none."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from dr.compile.blueprint import ReplicationGroup
from dr.errors import Conflict, NotFound
from dr.failover.selection import candidate, forget, kept, select
from dr.failover.sharing import Share, confirm, drop, keep
from dr.vault.manifest import format_time
from dr.vault.memory import MemoryBlobStore
from tests.vault.test_points import NOW, point, put
from tests.vault.test_shared import MEMBERS, whole

GROUP = ReplicationGroup("shop", MEMBERS)
SHARE = Share("shop", "r1", GROUP)


@pytest.fixture
def store() -> MemoryBlobStore:
    made = MemoryBlobStore()
    put(made, *whole(1, 1, minutes_ago=30), *whole(3, 2, minutes_ago=20))
    put(made, *(point(5, server=server, minutes_ago=10) for server in (*MEMBERS, "mail")))  # each one's own
    put(made, *whole(7, 3, minutes_ago=5)[:2])  # of this one web1's part never came
    return made


def chosen(store: MemoryBlobStore, selector: str, run: str = "r1") -> list[str]:
    return [select(store, "shop", run, server, selector, NOW, GROUP).point for server in MEMBERS]


def test_all_members_get_the_newest_point_that_all_have(store: MemoryBlobStore) -> None:
    looked = [candidate(store, server, "latest-group", NOW, SHARE).point for server in MEMBERS]
    assert list(store.list("runs")) == []
    assert looked == chosen(store, "latest-group") == [f"{server}-1-3" for server in MEMBERS]


def test_whoever_is_in_no_group_gets_its_latest_processed(store: MemoryBlobStore) -> None:
    assert select(store, "shop", "r1", "mail", "latest-group", NOW).point == "mail-1-5"


def test_a_time_means_the_whole_group(store: MemoryBlobStore) -> None:
    assert chosen(store, format_time(NOW - timedelta(minutes=25))) == [f"{server}-1-1" for server in MEMBERS]
    assert chosen(store, format_time(NOW), "r2") == [f"{server}-1-3" for server in MEMBERS]


def test_each_ones_own_point_is_an_explicit_word(store: MemoryBlobStore) -> None:
    assert chosen(store, "latest") == ["db1-1-7", "shop1-1-7", "web1-1-5"]


def test_what_the_first_member_chose_counts_for_all_whatever_comes_in_between(store: MemoryBlobStore) -> None:
    first = select(store, "shop", "r1", "web1", "latest-group", NOW, GROUP)
    put(store, *whole(9, 4, minutes_ago=1))
    assert [select(store, "shop", "r1", server, "latest-group", NOW, GROUP).point for server in MEMBERS] == [
        "db1-1-3",
        "shop1-1-3",
        first.point,
    ]
    assert candidate(store, "db1", "latest-group", NOW, SHARE).point == "db1-1-3"
    assert chosen(store, "latest-group", "r2") == [f"{server}-1-9" for server in MEMBERS]


def test_another_point_is_chosen_anew_and_nothing_is_left_in_the_end(store: MemoryBlobStore) -> None:
    earlier = format_time(NOW - timedelta(minutes=25))
    assert chosen(store, "latest-group") == [f"{server}-1-3" for server in MEMBERS]
    with pytest.raises(Conflict):
        chosen(store, earlier)
    for before, after, number in (("latest-group", earlier, 1), (earlier, "latest-group", 9)):
        put(store, *whole(9, 4, minutes_ago=1) if number == 1 else ())
        points = []
        for server in MEMBERS:  # one after the other, as Pulumi replaces them
            forget(store, "shop", "r1", server, before, GROUP)
            points.append(select(store, "shop", "r1", server, after, NOW, GROUP).point)
        assert points == [f"{server}-1-{number}" for server in MEMBERS]
    for server in MEMBERS:
        forget(store, "shop", "r1", server, "latest-group", GROUP)
        assert kept(store, "shop", "r1", server) is None
    assert list(store.list("runs")) == []


def test_a_choice_that_went_while_it_was_taken_tears_nothing_apart(store: MemoryBlobStore) -> None:
    taken = keep(store, SHARE, "latest-group", NOW)
    drop(store, SHARE, "latest-group")
    confirm(store, SHARE, "latest-group", taken)  # nobody chose meanwhile: it is kept again
    drop(store, SHARE, "latest-group")
    put(store, *whole(9, 4, minutes_ago=1))
    keep(store, SHARE, "latest-group", NOW)
    with pytest.raises(Conflict, match="another point was chosen"):
        confirm(store, SHARE, "latest-group", taken)


def test_without_a_shared_point_it_says_so_and_how_to_go_on() -> None:
    store = MemoryBlobStore()
    put(store, *(point(5, server=server) for server in MEMBERS))
    with pytest.raises(NotFound) as none:
        chosen(store, "latest-group")
    assert none.value.code == "no-shared-point"
    assert none.value.message == "db1, shop1, web1 of replication group shop share no recovery point"
    assert "latest-processed" in none.value.remedy
    assert chosen(store, "latest-processed") == [f"{server}-1-5" for server in MEMBERS]


def test_a_part_that_is_gone_or_was_never_chosen_is_said(store: MemoryBlobStore) -> None:
    select(store, "shop", "r1", "db1", "latest-group", NOW, GROUP)
    store.delete("manifests", whole(3, 2)[2].blob)
    with pytest.raises(NotFound, match="web1-1-3 for web1, and it is gone"):
        select(store, "shop", "r1", "web1", "latest-group", NOW, GROUP)
    more = replace(GROUP, members=(*MEMBERS, "mail"))
    with pytest.raises(NotFound, match="chose without mail"):
        select(store, "shop", "r1", "mail", "latest-group", NOW, more)
