"""Application-consistent points between operator, agent and vault: asked for, less than asked for, and the newest."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from dr.cli.main import dr
from dr.compile import names
from dr.config_server import points
from dr.config_server.client import SiteClient
from dr.errors import Degraded
from dr.vault.manifest import Manifest, to_bytes
from dr.vault.memory import MemoryBlobStore
from tests.config_server.rig import RunningSite, build_site, running_site
from tests.config_server.test_cuts_and_health import REASON, STATUS, asked_point, point
from tests.process_server.scripted import cut_segment
from tests.process_server.test_api import OPEN, SEGMENTS, STREAM

WARNING = {**REASON, "code": "application-late"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    root = tmp_path_factory.mktemp("local")
    build_site(root / "site")
    with running_site(root / "site") as running:
        yield running


def answer(site: RunningSite, **cut: object) -> None:
    """Be the agent: wait for a request, and answer it with a cut that holds `cut`."""
    agent, sender = site.agent(), site.sender()
    asked = None
    while asked is None:
        asked = agent("POST", "/v1/agents/shop1/heartbeat", STATUS)[1]["cut_request"]
        time.sleep(0.02)
    assert asked["app_consistent"] is True
    opened = sender("POST", STREAM, OPEN)[1]
    number = opened["next_sequence"]
    path = f"{SEGMENTS}/1/{number}?writer_epoch={opened['writer_epoch']}"
    sender("PUT", path, cut_segment(1, number, number, requested=asked["id"], **cut))  # type: ignore[arg-type]  # JSON
    sent = {"outcome": "sent", "number": number, "reason": cut.get("warning")}
    agent("POST", f"/v1/agents/shop1/cuts/{asked['id']}/result", sent)


def test_a_point_that_is_less_than_was_asked_for_is_degraded_by_name(site: RunningSite) -> None:
    agent = threading.Thread(target=answer, args=(site,), kwargs={"warning": WARNING})
    agent.start()
    environment = {"LIFEBOAT_LOCAL": str(site.folder.parent)}
    result = CliRunner().invoke(dr, ["points", "shop1", "--app-consistent"], env=environment)
    agent.join()
    assert isinstance(result.exception, Degraded)
    assert result.exception.code == "application-late"
    assert "is crash-consistent only: because" in result.exception.message
    newest = SiteClient(site.folder).status()["servers"]["shop1"]["newest_point"]
    assert newest["kind"] == "crash-consistent"


def test_a_point_as_it_was_asked_for_has_no_reason(site: RunningSite) -> None:
    agent = threading.Thread(
        target=answer, args=(site,), kwargs={"kind": "application-consistent", "applications": ["db"]}
    )
    agent.start()
    client = SiteClient(site.folder)
    found = client.wait_cut("shop1", client.request_cut("shop1", app_consistent=True), seconds=20)
    agent.join()
    assert (found["state"], found["reason"]) == ("point", None)
    assert client.status()["servers"]["shop1"]["newest_point"]["kind"] == "application-consistent"


def test_what_is_neither_true_nor_false_is_refused(site: RunningSite) -> None:
    wrong = {"app_consistent": "yes"}
    assert site.operator.code("POST", "/v1/servers/shop1/cuts", wrong) == (400, "request-invalid")


def numbered(number: int, made: Manifest) -> Manifest:
    return replace(made, number=number, id=names.point_id("shop1", 1, number))


def put(store: MemoryBlobStore, *made: Manifest) -> None:
    for each in made:
        store.put(names.MANIFESTS, each.blob, to_bytes(each), if_absent=True)


def test_the_newest_application_consistent_point_is_found_behind_others() -> None:
    store, passed = MemoryBlobStore(), set[str]()
    put(store, *(numbered(n, asked_point(60) if n in {2, 3} else point(60)) for n in range(1, 7)))
    found = points.newest(lambda: store, "shop1", passed)
    assert found.manifest is not None and found.app_consistent is not None
    assert (found.manifest.number, found.app_consistent.number) == (6, 3)
    assert len(passed) == 3
    # What is known is not read again, what went is forgotten, and what came counts.
    for gone in (3, 4):
        store.delete(names.MANIFESTS, names.manifest_blob("shop1", 1, gone))
    put(store, numbered(7, point(1)))
    found = points.newest(lambda: store, "shop1", passed)
    assert found.manifest is not None and found.app_consistent is not None
    assert (found.manifest.number, found.app_consistent.number, len(passed)) == (7, 2, 3)


def test_without_any_there_is_none_and_nobody_looks_where_nobody_wants_one() -> None:
    store = MemoryBlobStore()
    put(store, numbered(1, asked_point(60)), numbered(2, point(60)))
    assert points.newest(lambda: store, "shop1").app_consistent is None
    store.delete(names.MANIFESTS, names.manifest_blob("shop1", 1, 1))
    assert points.newest(lambda: store, "shop1", set()).app_consistent is None


def test_a_broken_manifest_hides_no_older_point(tmp_path: Path) -> None:
    store = MemoryBlobStore()
    put(store, numbered(1, asked_point(60)), numbered(2, point(60)))
    store.put(names.MANIFESTS, names.manifest_blob("shop1", 1, 3), b"{")
    found = points.newest(lambda: store, "shop1", set())
    assert found.manifest is not None and found.app_consistent is not None
    assert (found.manifest.number, found.app_consistent.number, found.fault) == (2, 1, None)
