"""The configuration server over HTTPS, with its own client."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dr.config_server.client import SiteClient, SiteUnreachable
from dr.errors import LifeboatError, NotFound
from tests.config_server.rig import RunningSite, build_site, running_site
from tests.config_server.test_cuts_and_health import REASON, SCHEMA, STATUS
from tests.process_server.scripted import Disks, cut_segment
from tests.process_server.test_api import OPEN, SEGMENTS, STREAM


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    folder = tmp_path_factory.mktemp("site")
    build_site(folder)
    with running_site(folder) as running:
        yield running


def test_status_knows_every_server_and_keeps_its_schema(site: RunningSite) -> None:
    status, answer = site.agent()("POST", "/v1/agents/shop1/heartbeat", STATUS)
    assert status == 200 and answer["protection_epoch"] == 1 and answer["cut_request"] is None
    assert answer["policy"]["crash_consistent_seconds"] == 300
    document = SiteClient(site.folder).status()
    SCHEMA.validate(document)
    assert document["servers"]["shop1"]["agent"] == STATUS and document["servers"]["db1"]["agent"] is None
    assert document["servers"]["shop1"]["writer"]["state"] == "no-stream" and document["health"] == "degraded"


def test_a_requested_point_with_a_barrier_becomes_one(site: RunningSite) -> None:
    client, agent, sender = SiteClient(site.folder), site.agent(), site.sender()
    cut = client.request_cut("shop1", barrier=True)
    asked = agent("POST", "/v1/agents/shop1/heartbeat", STATUS)[1]["cut_request"]
    assert asked == {"id": cut, "barrier": True, "app_consistent": False}
    answers = []
    frozen = threading.Thread(
        target=lambda: answers.append(agent("POST", f"/v1/agents/shop1/cuts/{cut}/frozen?wait=10.0", {}))
    )
    frozen.start()
    assert client.wait_cut("shop1", cut, until={"frozen"}, seconds=10)["state"] == "frozen" and not answers
    client.release("shop1", cut)
    frozen.join(10)
    assert answers == [(200, {"released": True})]
    opened = sender("POST", STREAM, OPEN)[1]
    first, path = opened["next_sequence"], f"{SEGMENTS}/1/{{}}?writer_epoch={opened['writer_epoch']}"
    sender("PUT", path.format(first), Disks().segment(1, first, "os", [1]))
    sender("PUT", path.format(first + 1), cut_segment(1, first + 1, first + 1, requested="r1"))
    agent("POST", f"/v1/agents/shop1/cuts/{cut}/result", {"outcome": "sent", "number": first + 1, "reason": None})
    assert client.wait_cut("shop1", cut, seconds=20)["point"] == f"shop1-1-{first + 1}"
    assert client.status()["servers"]["shop1"]["newest_point"]["id"] == f"shop1-1-{first + 1}"


def test_a_skipped_point_tells_why(site: RunningSite) -> None:
    client, agent = SiteClient(site.folder), site.agent()
    cut = client.request_cut("shop1")
    result = f"/v1/agents/shop1/cuts/{cut}/result"
    agent("POST", result, {"outcome": "skipped", "number": None, "reason": REASON})
    assert client.wait_cut("shop1", cut, seconds=5) == {"id": cut, "state": "skipped", "point": None, "reason": REASON}
    with pytest.raises(LifeboatError) as ended:
        client.release("shop1", cut)
    assert ended.value.code == "cut-ended"
    assert agent.code("POST", result, {"outcome": "great"}) == (400, "request-invalid")


def test_waiting_for_a_cut_ends_by_name(site: RunningSite) -> None:
    client = SiteClient(site.folder)
    cut = client.request_cut("shop1")
    started = time.monotonic()
    with pytest.raises(LifeboatError) as late:
        client.wait_cut("shop1", cut, seconds=0.3)
    assert late.value.code == "cut-timeout" and time.monotonic() - started < 5


def test_roles_are_kept_apart(site: RunningSite) -> None:
    agent, other = site.agent(), site.agent("db1")
    assert agent.code("GET", "/v1/status") == (403, "refused")
    assert agent.code("POST", "/v1/servers/shop1/cuts", {}) == (403, "refused")
    assert other.code("POST", "/v1/agents/shop1/heartbeat", STATUS) == (403, "refused")
    assert site.operator.code("POST", "/v1/agents/shop1/heartbeat", STATUS) == (403, "refused")
    assert other.code("POST", "/v1/agents/db1/heartbeat", STATUS) == (400, "request-invalid")
    assert site.operator.code("POST", "/v1/servers/shop1/cuts", {"barrier": "yes"}) == (400, "request-invalid")
    assert site.operator.code("GET", "/v1/servers/shop1/cuts/none?wait=nan") == (404, "unknown-cut")
    with pytest.raises(NotFound):
        SiteClient(site.folder).request_cut("nobody")


def test_a_site_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SiteUnreachable) as gone:
        SiteClient(tmp_path).status()
    assert gone.value.code == "site-unreachable" and gone.value.remedy
    build_site(tmp_path)
    with pytest.raises(SiteUnreachable) as silent:
        SiteClient(tmp_path).status()
    assert "does not answer" in silent.value.message


def test_a_store_that_is_away_is_a_named_state(site: RunningSite) -> None:
    site.store.script("D")
    with pytest.raises(LifeboatError):
        site.store.put("manifests", "x", b"")
    try:
        states = SiteClient(site.folder).status()["servers"]["shop1"]["states"]
        assert "store-unavailable" in [state["code"] for state in states]
    finally:
        site.store.heal()
