"""What a member of a group is told, and the one state that says why nothing is shared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dr.config_server import groups
from dr.config_server.groups import NewestShared
from dr.config_server.health import NamedState
from dr.config_server.heartbeats import Heartbeat
from dr.config_server.settings import Membership, ServerSettings
from dr.vault.shared import SharedPoint, shared_points
from tests.config_server.test_cuts_and_health import STATUS
from tests.vault.test_shared import by_server, whole

NOW = datetime(2026, 5, 17, 12, 0, tzinfo=UTC)
NAMES = ("db1", "shop1", "web1")
SERVERS = {
    **{
        name: ServerSettings(name, 1, 900, 300, 86400, group=Membership("shop", f"{name}.hq:20004", 20004))
        for name in NAMES
    },
    "alone": ServerSettings("alone", 1, 900, 300, 86400, group=Membership("other", "alone.hq:20004", 20004)),
    "mail": ServerSettings("mail", 1, 900, 300, 86400),
}
SHARED = {"id": "1" * 16, "outcome": "shared", "reason": None}


def beat(mode: str = "delta", *, seconds_ago: float = 1.0, **group: Any) -> Heartbeat:
    about = {"name": "shop", "coordinator": "db1", "reason": None, "last_round": None, **group}
    return Heartbeat(NOW - timedelta(seconds=seconds_ago), {**STATUS, "mode": mode, "group": about})


def newest(minutes_ago: int = 1) -> SharedPoint:
    return shared_points(by_server(whole(3, 1, minutes_ago=minutes_ago)), "shop")[0]


def judged(point: SharedPoint | None = None, **beats: Heartbeat | None) -> list[dict[str, Any]]:
    heard = {name: beat() for name in NAMES} | beats
    document = groups.group_document("shop", SERVERS, heard, NewestShared(point), NOW)
    assert (document["health"] == "healthy") is (document["states"] == [])
    states: list[dict[str, Any]] = document["states"]
    return states


def test_a_member_is_told_the_others_and_a_single_server_nothing() -> None:
    assert groups.groups_of(SERVERS) == ["shop"]
    assert groups.told(SERVERS, "web1") == {
        "name": "shop",
        "members": {name: f"{name}.hq:20004" for name in NAMES},
        "coordinator": "db1",
        "port": 20004,
    }
    assert groups.told(SERVERS, "mail") is None
    assert groups.told(SERVERS, "alone") is None


def test_all_is_well() -> None:
    assert judged(newest(), db1=beat(last_round=SHARED)) == []


@pytest.mark.parametrize(
    ("beats", "says"),
    [
        ({"web1": None}, "web1 has not been heard yet"),
        ({"web1": beat(seconds_ago=600)}, "web1 has not been heard for 600 s"),
        ({"web1": beat("resync")}, "web1 is in mode resync"),
        ({"web1": beat("fenced")}, "web1 is in mode fenced"),
        ({"web1": beat(reason={"message": "port 20004: in use"})}, "web1: port 20004: in use"),
        (
            {"db1": beat(last_round={"outcome": "void", "reason": {"message": "shop1 (shop1.hq:20004): timed out"}})},
            "shop1 (shop1.hq:20004): timed out",
        ),
    ],
)
def test_whatever_is_wrong_is_one_state_with_its_cause(beats: dict[str, Heartbeat | None], says: str) -> None:
    for point, since in ((newest(), "the newest is of 2026-05-17T11:59:00.000Z"), (None, "there is none yet")):
        (state,) = judged(point, **beats)
        assert state["code"] == "group-not-shared"
        assert state["message"] == f"replication group shop makes no shared recovery points, {since}: {says}"
        assert state["remedy"]


def test_two_that_are_down_are_still_one_state() -> None:
    void = {"outcome": "void", "reason": {"message": "shop1 and web1 are unreachable"}}
    (state,) = judged(newest(), shop1=None, web1=beat(seconds_ago=99), db1=beat(last_round=void))
    assert state["message"].endswith("shop1 has not been heard yet; web1 has not been heard for 99 s")


def test_a_point_that_does_not_come_is_noticed_though_nobody_says_why() -> None:
    assert judged(newest(10), db1=beat(last_round=SHARED)) == []
    (state,) = judged(newest(12), db1=beat(last_round=SHARED))
    assert state["message"].endswith("the next one is awaited")


def test_a_vault_that_does_not_answer_is_said_and_nothing_else() -> None:
    fault = NamedState("store-unavailable", "the vault cannot be asked", "wait")
    heard: dict[str, Heartbeat | None] = {name: beat() for name in NAMES}
    document = groups.group_document("shop", SERVERS, heard, NewestShared(None, fault), NOW)
    assert [state["code"] for state in document["states"]] == ["store-unavailable"]


@pytest.mark.parametrize(
    "group", [None, "x", {"last_round": "x"}, {"last_round": {"outcome": "void", "reason": 3}}, {"reason": 7}]
)
def test_whatever_an_agent_says_of_its_group_the_status_stands(group: object) -> None:
    strange = Heartbeat(NOW, {**STATUS, "group": group})
    assert isinstance(judged(newest(), db1=strange, web1=strange), list)
