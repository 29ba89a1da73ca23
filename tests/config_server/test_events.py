"""Events: one when a named state is entered, one when it is cleared, whatever happens in between."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import validate

from dr.cli.main import dr
from dr.config_server.events import CLEARED, ENTERED, Event, EventLog
from dr.config_server.health import Newest, server_document
from dr.config_server.heartbeats import Heartbeat
from dr.errors import NotFound, Unreachable
from tests.config_server.rig import build_site, running_site
from tests.config_server.test_cuts_and_health import NOW, SETTINGS, STATUS, point
from tests.config_server.test_following import until

SCHEMA = json.loads(Path("docs/formats/events.schema.json").read_text())


def state(code: str) -> dict[str, str]:
    return {"code": code, "message": f"it is {code}", "remedy": "mend it", "severity": "degraded"}


def seconds(count: int) -> datetime:
    return NOW + timedelta(seconds=count)


def test_an_rpo_over_its_threshold_is_one_event_and_its_return_another(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.db")
    noted: list[Event] = []
    for minute in range(60):
        now, newest = NOW + timedelta(minutes=minute), point(-40 * 60 if minute >= 40 else 0)
        shown = server_document(SETTINGS, Heartbeat(now, STATUS), Newest(newest), None, now)
        noted += log.note({"shop1": shown["states"]}, now)
    assert [(each.code, each.change, each.at) for each in noted] == [
        ("rpo-over-threshold", ENTERED, NOW + timedelta(minutes=11)),  # the threshold is ten
        ("rpo-over-threshold", CLEARED, NOW + timedelta(minutes=40)),
        ("rpo-over-threshold", ENTERED, NOW + timedelta(minutes=51)),
    ]


def test_a_restart_repeats_nothing_and_tells_the_end_of_what_began_before(tmp_path: Path) -> None:
    EventLog(tmp_path / "events.db").note({"shop1": [state("agent-silent")], "": [state("x")]}, NOW)
    again = EventLog(tmp_path / "events.db")
    assert again.note({"shop1": [state("agent-silent")], "": [state("x")]}, seconds(30)) == []
    noted = again.note({"shop1": [], "": [state("x")]}, seconds(60))
    assert [(each.server, each.code, each.change, each.remedy) for each in noted] == [
        ("shop1", "agent-silent", CLEARED, "mend it")
    ]
    assert [each.number for each in again.read()] == [1, 2, 3]


def test_what_cannot_be_written_is_noted_when_it_can(tmp_path: Path) -> None:
    path = tmp_path / "events.db"
    path.write_bytes(b"no database, and longer than a header would be" * 100)
    log = EventLog(path)
    assert log.note({"shop1": [state("agent-silent")]}, NOW) == []
    assert "events.db" in log.unsaved
    with pytest.raises(Unreachable) as told:
        log.read()
    assert "moved away" in told.value.remedy
    path.unlink()
    assert [each.code for each in log.note({"shop1": [state("agent-silent")]}, seconds(30))] == ["agent-silent"]
    assert log.unsaved == ""


def test_the_newest_are_kept_and_what_is_open_as_well(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.db", kept=6)
    log.note({"db1": [state("old")]}, NOW)
    for turn in range(20):
        log.note({"db1": [state("old")], "shop1": [state("flaps")] if turn % 2 == 0 else []}, seconds(turn))
    assert [each.number for each in log.read()] == [1, 16, 17, 18, 19, 20, 21]
    assert [(each.code, each.change) for each in log.note({"db1": [], "shop1": []}, seconds(99))] == [("old", CLEARED)]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.dictionaries(st.sampled_from(["a", "b", ""]), st.sets(st.sampled_from("xyz"))), max_size=12))
def test_entered_and_cleared_take_turns_and_tell_what_is(
    tmp_path_factory: pytest.TempPathFactory, looks: list[Mapping[str, set[str]]]
) -> None:
    log = EventLog(tmp_path_factory.mktemp("events") / "events.db")
    is_open: set[tuple[str, str]] = set()
    for number, look in enumerate(looks):
        for event in log.note(
            {server: [state(code) for code in codes] for server, codes in look.items()}, seconds(number)
        ):
            key = (event.server, event.code)
            assert (key in is_open) == (event.change == CLEARED)
            is_open ^= {key}
        assert is_open == {(server, code) for server, codes in look.items() for code in codes}


def test_dr_events_shows_them_in_order(tmp_path: Path) -> None:
    build_site(tmp_path / "site")

    def dr_events(*arguments: str) -> Result:
        return CliRunner().invoke(dr, ["events", *arguments], env={"LIFEBOAT_LOCAL": str(tmp_path)})

    def shown(*arguments: str) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in dr_events(*arguments, "--json").stdout.splitlines()]
        for each in found:
            validate(each, SCHEMA)
        return found

    with running_site(tmp_path / "site", watch_seconds=0.2) as site:
        until(lambda: {each["server"] for each in shown()} >= {"shop1", "db1"})
        assert ("agent-never-heard", "entered") in {(each["code"], each["change"]) for each in shown("shop1")}
        site.agent()("POST", "/v1/agents/shop1/heartbeat", STATUS)
        until(lambda: ("agent-never-heard", "cleared") in {(e["code"], e["change"]) for e in shown("shop1")})
        assert {each["server"] for each in shown("shop1")} == {"shop1"}
        assert [each["number"] for each in shown("--last", "2")] == [each["number"] for each in shown()][-2:]
        text = dr_events("shop1").stdout
        assert "! shop1: agent-never-heard entered: the agent has not been heard yet" in text
        assert "- shop1: agent-never-heard cleared" in text
        with pytest.raises(NotFound, match="shop2"):
            CliRunner().invoke(dr, ["events", "shop2"], env={"LIFEBOAT_LOCAL": str(tmp_path)}, catch_exceptions=False)
