"""Three servers that share recovery points: one instant, or no shared point; real agents, disks and a slow network."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cut import DEADLINE_SECONDS
from tests.agent.grouped import KINDS, Grouped, snapshots, without_cause
from tests.agent.protected import wait_for

pytestmark = [pytest.mark.real, pytest.mark.timeout(400)]

SLACK_SECONDS = 3.0  # of a busy machine, on top of what a freeze may last


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Grouped]:
    made = Grouped(tmp_path)
    yield made
    made.close()


def test_no_effect_is_without_its_cause_in_a_shared_point(group: Grouped) -> None:
    group.start()
    with group.writers():
        group.wait_shared(4)
        time.sleep(1)
    points = group.wait_shared(4)
    came = [group.numbers(snapshots(point)) for point in points[:4]]
    assert all(len(numbers) > 10 for numbers in came[:2]), [len(numbers) for numbers in came]
    assert [without_cause(numbers) for numbers in came] == [0, 0, 0, 0]
    assert len(came[0]) > len(came[3])
    # What the check is worth: the newest part of one server among older parts of the others.
    torn = {**snapshots(points[3]), "web1": snapshots(points[0])["web1"]}
    assert without_cause(group.numbers(torn))
    for point in points:
        assert {part.group.members for part in point.parts.values() if part.group} == {tuple(KINDS)}
    wait_for("healthy", lambda: group.group_status()["states"] == [], 60)
    status = group.group_status()
    assert status["coordinator"] == "db1"
    assert status["newest_point"]["id"] in {point.id for point in group.shared()}


def in_the_middle(group: Grouped, member: str, into_seconds: float) -> None:
    """Return while a round runs, `into_seconds` after this member has made its watchdogs ready."""
    record = group.servers[member].run_folder / "freezing.json"
    wait_for("no round", lambda: not record.exists(), 30)
    wait_for("a round", record.exists, 60)
    time.sleep(into_seconds)


def stalled_seconds(group: Grouped) -> float:
    """Return how long each server needs to take a write now, at most."""
    longest = 0.0
    for mount in group.mounts.values():
        began = time.monotonic()
        with (mount / "probe").open("ab") as file:
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
        longest = max(longest, time.monotonic() - began)
    return longest


def go_on_alone(group: Grouped, names: list[str]) -> None:
    """Wait until each of these servers has made another point."""
    singles = {name: group.single_points(name) for name in names}
    wait_for("single points", lambda: all(group.single_points(name) > singles[name] for name in names), 60)


def heal(group: Grouped, victim: str) -> None:
    """Do what the remedy of an overrun says: who hung while it stood still freezes no more until somebody looked."""
    server = group.servers[victim]
    if server.status()["freezing"] != "on":
        server.stop(20)
        (server.run_folder / "freezing-off.json").unlink()
        server.start()


@pytest.mark.parametrize("victim", ["db1", "web1"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_member_that_dies_or_hangs_in_the_middle_stops_nobody_else(
    group: Grouped, victim: str, number: signal.Signals
) -> None:
    group.start()
    server = group.servers[victim]
    others = [name for name in KINDS if name != victim]
    with group.writers():
        group.wait_shared()
        for into_seconds in (0.1, 0.5):
            in_the_middle(group, victim, into_seconds)
            assert server.process is not None
            server.process.send_signal(number)
            assert stalled_seconds(group) < DEADLINE_SECONDS + SLACK_SECONDS
            go_on_alone(group, others)
            if number is signal.SIGKILL:
                server.kill()
                server.start()
            else:
                server.process.send_signal(signal.SIGCONT)
                time.sleep(2)
                heal(group, victim)
            reached, count = group.reached(), len(group.shared())
            group.wait_shared(count, 120)
            assert group.reached() > reached
    points = group.wait_shared()[:4]
    assert [without_cause(group.numbers(snapshots(point))) for point in points] == [0] * len(points)
    wait_for("healthy", lambda: group.group_status()["states"] == [], 60)
    assert {each.status()["mode"] for each in group.servers.values()} == {"delta"}
    assert {each.status()["freezing"] for each in group.servers.values()} == {"on"}


def test_a_member_that_is_down_is_one_alert_that_goes_when_it_is_back(group: Grouped) -> None:
    group.start()
    count = len(group.wait_shared())
    group.servers["shop1"].kill()
    wait_for("the alert", lambda: any("shop1" in text for text in group.group_states()), 60)
    assert len(group.group_states()) == 1
    go_on_alone(group, ["db1", "web1"])
    document = group.site.status()
    assert [state["code"] for state in document["groups"]["shop"]["states"]] == ["group-not-shared"]
    assert "group" not in "".join(
        state["code"] for server in document["servers"].values() for state in server["states"]
    )
    group.servers["shop1"].start()
    group.wait_shared(count, 90)
    wait_for("healthy", lambda: group.group_status()["states"] == [], 60)


def test_a_way_that_takes_nothing_any_more_holds_nobody_frozen(group: Grouped) -> None:
    group.start()
    count = len(group.wait_shared())
    in_the_middle(group, "db1", 0.2)
    group.way.hold()
    assert stalled_seconds(group) < DEADLINE_SECONDS
    wait_for("the alert", lambda: group.group_states() != [], 60)
    go_on_alone(group, list(KINDS))
    group.way.go_on()
    group.wait_shared(count, 90)
    assert all(server.status()["freezing"] == "on" for server in group.servers.values())


def test_a_server_leaves_and_joins_its_group_without_losing_track(group: Grouped) -> None:
    group.start()
    count = len(group.wait_shared())
    pids = {name: server.process.pid for name, server in group.servers.items() if server.process}
    group.site.declare("web1", group=None)
    wait_for("a group of two", lambda: group.group_status()["members"] == ["db1", "shop1"], 10)
    both = group.wait_shared(count, 60)[0]
    wait_for("points of two", lambda: set(group.shared()[0].parts) == {"db1", "shop1"}, 60)
    assert both.group == "shop"
    assert group.servers["web1"].status()["group"] is None
    group.site.declare("web1", group=group.memberships["web1"])
    wait_for("points of three", lambda: set(group.shared()[0].parts) == set(KINDS), 60)
    for name, server in group.servers.items():
        status = server.status()
        assert (status["mode"], status["tracker"]["overruns"]) == ("delta", 0), name
        assert server.process is not None
        assert server.process.pid == pids[name]
        assert "resync" not in server.log.read_text()
