"""Requests for recovery points and the judgement over a server, without any network."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dr.config_server.cuts import EXPIRES_SECONDS, MAX_OPEN, CutDesk, CutState
from dr.config_server.health import NamedState, Newest, server_document, status_document, vault_document
from dr.config_server.heartbeats import Heartbeat, Heartbeats, check_status
from dr.config_server.settings import ServerSettings
from dr.errors import Conflict, NotFound
from dr.https import RequestInvalid
from dr.process_server.states import SkippedPoint, WriterReport, WriterState
from dr.vault.manifest import DiskPoint, Manifest, format_time

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SETTINGS = ServerSettings("shop1", 1, 600, 300, 86400)
SCHEMA = Draft202012Validator(json.loads(Path("docs/formats/status.schema.json").read_text()))
STATUS: dict[str, Any] = {
    "server": "shop1", "boot_id": "b", "mode": "delta", "reason": None, "pending_bytes": 0,
    "initial_bytes_total": 100, "initial_bytes_done": 100, "sent_bytes": 60, "sequence": 9, "stored_sequence": 9,
    "tracker": {"kind": "ring", "overruns": 0, "events": 1}, "freezing": "on", "last_cut": None, "version": "0.1.0",
}  # fmt: skip
WRITER = WriterReport("shop1", WriterState.WRITING, "", 1, 9, 9, 0, 0, 0, "shop1-1-9", None, False, False)
REASON = {"code": "why", "message": "because", "remedy": "do"}


def point(age_seconds: float) -> Manifest:
    cut = NOW - timedelta(seconds=age_seconds)
    disk = DiskPoint("os", 512, "b", "s", "d", "e", "0" * 64)
    return Manifest(
        "shop1-1-9", "shop1", "hq", 1, 9, "crash-consistent", cut, NOW, 9, 1, (), (), 0, "bios", {}, (disk,)
    )  # fmt: skip


def asked_point(age_seconds: float) -> Manifest:
    return replace(point(age_seconds), kind="application-consistent", applications=("db",))


def judged(**given: Any) -> dict[str, Any]:
    beat = Heartbeat(NOW - timedelta(seconds=given.get("silent", 1)), STATUS | given.get("status", {}))
    return server_document(
        replace(SETTINGS, app_consistent_seconds=given.get("every")),
        None if given.get("never") else beat,
        given.get("newest", Newest(point(60))),
        given.get("writer", WRITER),
        NOW,
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, []),
        ({"writer": None}, []),
        ({"never": True}, ["agent-never-heard"]),
        ({"silent": 31}, ["agent-silent"]),
        ({"status": {"mode": "initial-replication"}, "newest": Newest(None)}, ["initial-replication", "no-point"]),
        ({"status": {"mode": "resync", "reason": REASON}}, ["resync"]),
        ({"status": {"mode": "copy", "reason": REASON}}, ["copy"]),
        ({"status": {"mode": "fenced"}}, ["fenced"]),
        ({"status": {"reason": REASON}}, ["why"]),
        ({"status": {"freezing": {"off": REASON}}}, ["freezing-off"]),
        ({"status": {"last_cut": {"outcome": "skipped", "reason": REASON}}}, ["point-skipped"]),
        ({"writer": replace(WRITER, state=WriterState.STORE_UNAVAILABLE, cause="no")}, ["store-unavailable"]),
        ({"writer": replace(WRITER, spool_full=True)}, ["spool-full"]),
        ({"writer": replace(WRITER, skipped_point=SkippedPoint(3, "x", "y", "z"))}, ["point-skipped"]),
        ({"newest": Newest(point(601))}, ["rpo-over-threshold"]),
        ({"newest": Newest(None, NamedState("store-unavailable", "m", "r"))}, ["store-unavailable"]),
        ({"status": {"applications": {"warning": {**REASON, "code": "application-late"}}}}, ["application-late"]),
        ({"status": {"applications": {"warning": {"code": "No Code"}}}}, ["application-failed"]),
        ({"every": 3600, "newest": Newest(point(60), None, asked_point(4500))}, []),
        ({"every": 3600, "newest": Newest(point(60), None, asked_point(4501))}, ["app-consistent-overdue"]),
        ({"every": 3600, "newest": Newest(point(60))}, ["app-consistent-overdue"]),
        ({"every": 3600, "newest": Newest(None)}, ["no-point"]),
    ],
)
def test_every_degraded_state_has_a_name_and_the_answer_keeps_its_schema(given: Any, expected: list[str]) -> None:
    document = judged(**given)
    assert [state["code"] for state in document["states"]] == expected
    assert document["health"] == ("degraded" if expected else "healthy")
    SCHEMA.validate(json.loads(json.dumps(status_document("hq", "configuration-server", [], {"shop1": document}, NOW))))


def test_rpo_is_the_age_of_the_newest_cut_when_asked() -> None:
    assert judged()["rpo_seconds"] == 60 and judged(newest=Newest(None))["rpo_seconds"] is None
    alone = vault_document(SETTINGS, Newest(point(30)), NOW)
    assert alone["rpo_seconds"] == 30 and alone["agent"] is None and alone["health"] == "degraded"


def test_progress_is_told_in_percent() -> None:
    status = {"mode": "initial-replication", "initial_bytes_done": 25}
    assert "25 %" in judged(status=status)["states"][0]["message"]


def test_a_resync_says_how_long_points_will_be_missing_and_which_one_stays() -> None:
    status = {"mode": "resync", "reason": REASON, "initial_bytes_done": 25, "remaining_seconds": 180}
    told = judged(status=status)["states"][0]["message"]
    assert told.startswith("resync 25 %, about 3 min to go: ")
    kept = point(60)
    assert told.endswith(f"there is no new recovery point, and {kept.id} of {format_time(kept.cut_time)} is kept")
    assert "no recovery point before it ends" in judged(status=status, newest=Newest(None))["states"][0]["message"]


def test_a_cut_with_a_barrier_from_request_to_point() -> None:
    async def story() -> None:
        desk = CutDesk(lambda: 0.0)
        cut = desk.request("shop1", barrier=True)
        assert desk.next_for("shop1") is cut and desk.next_for("db1") is None
        held = asyncio.create_task(desk.hold(cut, 10))
        await desk.wait_changed(cut, CutState.REQUESTED, 10)
        assert cut.state is CutState.FROZEN and desk.next_for("shop1") is None and not held.done()
        desk.release(cut)
        assert await held is True
        desk.sent(cut, 7)
        desk.sent(cut, 8)
        assert cut.number == 7 and desk.open_sent() == [cut]
        desk.became(cut, "shop1-1-7")
        desk.skipped(cut, REASON)
        assert cut.document() == {"id": cut.id, "state": "point", "point": "shop1-1-7", "reason": None}
        assert desk.find("shop1", cut.id) is cut
        with pytest.raises(NotFound):
            desk.find("db1", cut.id)

    asyncio.run(story())


def test_a_barrier_that_nobody_releases_ends_by_the_agents_deadline() -> None:
    async def story() -> None:
        desk = CutDesk(lambda: 0.0)
        cut = desk.request("shop1", barrier=True)
        assert await desk.hold(cut, 0.01) is False
        desk.skipped(cut, REASON)
        assert cut.document()["reason"] == REASON
        with pytest.raises(Conflict):
            desk.release(cut)
        assert await desk.hold(cut, 10) is False

    asyncio.run(story())


def test_requests_end_by_themselves_and_are_bounded() -> None:
    now = [0.0]
    desk = CutDesk(lambda: now[0])
    first = desk.request("shop1", barrier=False)
    for _ in range(MAX_OPEN - 1):
        desk.request("shop1", barrier=False)
    with pytest.raises(Conflict):
        desk.request("shop1", barrier=False)
    now[0] = EXPIRES_SECONDS + 1
    assert desk.next_for("shop1") is None
    assert first.state is CutState.SKIPPED and first.reason is not None and first.reason["code"] == "agent-silent"
    desk.request("shop1", barrier=False)


def test_heartbeats_survive_a_restart_with_their_age(tmp_path: Path) -> None:
    Heartbeats(tmp_path / "h.json").note("shop1", STATUS, NOW)
    kept = Heartbeats(tmp_path / "h.json").latest("shop1")
    assert kept == Heartbeat(NOW, STATUS)
    (tmp_path / "h.json").write_text("torn")
    assert Heartbeats(tmp_path / "h.json").latest("shop1") is None


@pytest.mark.parametrize(
    "wrong", [{"server": "db1"}, {"mode": "great"}, {"pending_bytes": -1}, {"reason": "x"}, {"boot_id": "x" * 70000}]
)
def test_a_wrong_heartbeat_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestInvalid):
        check_status("shop1", STATUS | wrong)
