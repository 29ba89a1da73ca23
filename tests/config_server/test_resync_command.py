"""`dr resync` as a person and a script see it, against a real configuration server and an agent that is a script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from jsonschema import validate

from dr.cli.main import dr
from dr.errors import NotFound
from tests.config_server.rig import BeatingAgent, RunningSite, build_site, running_site
from tests.config_server.test_cuts_and_health import STATUS

SCHEMA = json.loads(Path("docs/formats/resync.schema.json").read_text())
RESYNC = {"mode": "resync", "reason": {"code": "requested", "message": "asked for", "remedy": "wait"}}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    root = tmp_path_factory.mktemp("local")
    build_site(root / "site")
    with running_site(root / "site") as running:
        yield running


def agent(site: RunningSite, steps: list[dict[str, Any]]) -> BeatingAgent:
    """Return one that beats until it is told of a resync, then goes through `steps`, one status a beat."""
    told: list[str] = []

    def following(answer: dict[str, Any]) -> dict[str, Any]:
        asked = answer["resync_request"]
        if asked:
            told[:] = [asked]
        elif told and len(steps) > 1:
            steps.pop(0)
        return STATUS | (steps[0] if told else {}) | {"resync_request": told[0] if told else None}

    return BeatingAgent(site, STATUS | {"resync_request": None}, following)


def dr_resync(site: RunningSite, *arguments: str) -> Result:
    environment = {"LIFEBOAT_LOCAL": str(site.folder.parent)}
    return CliRunner().invoke(dr, ["resync", *arguments], env=environment)


def test_it_returns_when_the_agent_has_begun(site: RunningSite) -> None:
    with agent(site, [RESYNC | {"initial_bytes_done": 10, "remaining_seconds": 90}]):
        answer = dr_resync(site, "shop1", "--json")
    document = json.loads(answer.stdout)
    validate(document, SCHEMA)
    assert answer.exit_code == 0
    assert (document["mode"], document["remaining_seconds"], document["newest_point"]) == ("resync", 90, None)


@pytest.mark.thorough
def test_it_waits_until_the_replica_is_complete(site: RunningSite) -> None:
    steps = [RESYNC | {"initial_bytes_done": done} for done in (0, 20, 70)]
    with agent(site, [*steps, {}]):
        answer = dr_resync(site, "shop1", "--wait")
    assert answer.exit_code == 0
    assert answer.stdout.splitlines() == [
        "shop1: the agent has begun, mode resync",
        "shop1: the replica is complete, mode delta",
    ]
    assert "shop1: 100 %" in answer.stderr.splitlines()


def test_an_open_request_is_returned_again_and_one_that_was_taken_up_is_closed(site: RunningSite) -> None:
    first = site.operator("POST", "/v1/servers/shop1/resync", {})[1]["id"]
    assert site.operator("POST", "/v1/servers/shop1/resync", {})[1]["id"] == first
    caller = site.agent()
    assert caller("POST", "/v1/agents/shop1/heartbeat", STATUS)[1]["resync_request"] == first
    assert caller("POST", "/v1/agents/shop1/heartbeat", STATUS | {"resync_request": first})[1]["resync_request"] is None


def test_only_an_operator_may_ask_and_only_for_a_protected_server(site: RunningSite) -> None:
    assert site.agent().code("POST", "/v1/servers/shop1/resync", {}) == (403, "refused")
    answer = dr_resync(site, "shop9")
    assert isinstance(answer.exception, NotFound) and answer.exception.code == "unknown-server"
