"""Verification passes: when they are due, what of them is kept, and `dr compare` against a real server."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from jsonschema import validate

from dr.cli.main import dr
from dr.config_server.verifications import VerificationDesk
from dr.errors import Degraded
from tests.config_server.rig import BeatingAgent, RunningSite, build_site, running_site
from tests.config_server.test_cuts_and_health import STATUS

COMPARE = json.loads(Path("docs/formats/compare.schema.json").read_text())
STATUS_SCHEMA = json.loads(Path("docs/formats/status.schema.json").read_text())
NOW = datetime(2026, 1, 2, tzinfo=UTC)
WEEK = 7 * 86400
MIB = 1 << 20


def told(request: str, state: str = "ended", **more: object) -> dict[str, Any]:
    document = {
        "request": request,
        "state": state,
        "total_bytes": 8 * MIB,
        "compared_bytes": 8 * MIB,
        "drift_bytes": 0,
        "unreadable": None,
        "drift": [],
    }
    return document | more


def test_a_pass_is_due_a_week_after_the_server_is_new_and_after_each_end(tmp_path: Path) -> None:
    desk = VerificationDesk(tmp_path / "v.json")
    assert desk.pending("shop1", WEEK, NOW) is None
    assert desk.pending("shop1", WEEK, NOW + timedelta(days=6)) is None
    asked = desk.pending("shop1", WEEK, NOW + timedelta(days=7))
    assert asked and desk.pending("shop1", WEEK, NOW + timedelta(days=7, hours=1)) == asked
    desk.heard("shop1", told(asked, "running"), NOW + timedelta(days=7, hours=1))
    assert desk.pending("shop1", WEEK, NOW + timedelta(days=7, hours=2)) == asked
    ended = NOW + timedelta(days=7, hours=3)
    desk.heard("shop1", told(asked), ended)
    assert desk.pending("shop1", WEEK, ended + timedelta(days=6)) is None
    assert desk.pending("shop1", WEEK, ended + timedelta(days=7)) not in {None, asked}


def test_without_a_schedule_only_an_operator_begins_one(tmp_path: Path) -> None:
    desk = VerificationDesk(tmp_path / "v.json")
    assert desk.pending("shop1", 0, NOW) is None and desk.pending("shop1", 0, NOW + timedelta(days=99)) is None
    asked = desk.request("shop1")
    assert desk.request("shop1") == asked == desk.pending("shop1", 0, NOW)


def test_a_restart_forgets_neither_the_schedule_nor_a_drift(tmp_path: Path) -> None:
    desk = VerificationDesk(tmp_path / "v.json")
    desk.pending("db1", WEEK, NOW)
    asked = desk.request("shop1")
    desk.heard("shop1", told(asked, drift_bytes=65536, drift=[{"disk": "os", "offset": MIB}]), NOW)
    again = VerificationDesk(tmp_path / "v.json")
    last = again.last("shop1")
    assert last is not None and (last.drift_bytes, last.drift) == (65536, (("os", MIB),))
    assert again.pending("shop1", WEEK, NOW + timedelta(days=6)) is None
    assert again.pending("db1", WEEK, NOW + timedelta(days=7)) is not None


def test_a_clock_that_was_set_back_makes_a_pass_due_rather_than_never(tmp_path: Path) -> None:
    desk = VerificationDesk(tmp_path / "v.json")
    desk.pending("shop1", WEEK, NOW + timedelta(days=400))
    assert desk.pending("shop1", WEEK, NOW) is not None


@pytest.mark.parametrize(
    "word",
    [
        None,
        [],
        "ended",
        {"state": "ended"},
        told("another"),
        told("REQUEST", total_bytes=-1),
        told("REQUEST", drift_bytes="7"),
    ],
)
def test_what_is_no_end_of_the_asked_pass_changes_nothing(tmp_path: Path, word: Any) -> None:
    desk = VerificationDesk(tmp_path / "v.json")
    asked = desk.request("shop1")
    if isinstance(word, dict) and word.get("request") == "REQUEST":
        word = {**word, "request": asked}
    desk.heard("shop1", word, NOW)
    assert desk.last("shop1") is None and desk.pending("shop1", WEEK, NOW) == asked


def test_a_full_folder_is_named_and_nothing_else(tmp_path: Path) -> None:
    desk = VerificationDesk(tmp_path / "missing" / "v.json")
    asked = desk.request("shop1")
    desk.heard("shop1", told(asked), NOW)
    assert desk.last("shop1") is not None and "cannot be written" in desk.unsaved


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    root = tmp_path_factory.mktemp("local")
    build_site(root / "site")
    with running_site(root / "site") as running:
        yield running


def agent(site: RunningSite, *steps: dict[str, Any]) -> BeatingAgent:
    """Return one that beats until it is told of a pass, then says `steps` of it, one a beat."""
    left = list(steps)
    said: dict[str, Any] = {"verification": None}

    def following(answer: dict[str, Any]) -> dict[str, Any]:
        asked = answer["verification_request"]
        if asked and left:
            said["verification"] = told(asked, **left.pop(0))
        return STATUS | said

    return BeatingAgent(site, STATUS | said, following)


def dr_compare(site: RunningSite, *arguments: str) -> Result:
    return CliRunner().invoke(dr, ["compare", *arguments], env={"LIFEBOAT_LOCAL": str(site.folder.parent)})


def test_it_waits_until_everything_is_compared(site: RunningSite) -> None:
    with agent(site, {"state": "running", "compared_bytes": 2 * MIB}, {}):
        answer = dr_compare(site, "shop1", "--wait")
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.splitlines() == [
        "shop1: the agent has begun to compare",
        f"shop1: {8 * MIB} bytes were compared, none differs",
    ]
    shown = site.operator("GET", "/v1/status")[1]
    validate(shown, STATUS_SCHEMA)
    assert shown["servers"]["shop1"]["verification"]["compared_bytes"] == 8 * MIB


@pytest.mark.thorough
def test_drift_is_named_by_the_command_and_by_the_status_until_a_clean_pass(site: RunningSite) -> None:
    drifted = {"drift_bytes": 65536, "drift": [{"disk": "os", "offset": MIB}]}
    with agent(site, drifted):
        answer = dr_compare(site, "shop1", "--wait", "--json")
        time.sleep(1)
    document = json.loads(answer.stdout)
    validate(document, COMPARE)
    assert answer.exit_code == Degraded.exit_code and document["drift_bytes"] == 65536
    shown = site.operator("GET", "/v1/status")[1]
    validate(shown, STATUS_SCHEMA)
    state = next(s for s in shown["servers"]["shop1"]["states"] if s["code"] == "drift-found")
    assert f"os at byte {MIB}" in state["message"] and "dr compare shop1" in state["remedy"]
    with agent(site, {}):
        assert dr_compare(site, "shop1", "--wait").exit_code == 0
        time.sleep(1)
    states = site.operator("GET", "/v1/status")[1]["servers"]["shop1"]["states"]
    assert "drift-found" not in [s["code"] for s in states]


def test_only_an_operator_may_ask(site: RunningSite) -> None:
    assert site.agent().code("POST", "/v1/servers/shop1/verification", {}) == (403, "refused")
