"""Application-consistent points by a real agent: asked for, by policy, and every way in which they are not."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.agent.applications import Diary
from tests.agent.protected import CHECKOUT, CHUNK, MIB, Protected, fill, wait_for
from tests.agent.test_agent_cut import ended
from tests.agent.whole_site import Site

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]

HELD = ["db pre -", "queue pre -", "queue post held", "db post held"]


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path / "scripts")


def begin(protected: Protected, *applications: dict[str, Any]) -> None:
    protected.mount(protected.disk("os", 400 * MIB))
    protected.changes["applications"] = list(applications)
    protected.start()
    protected.wait_mode("delta", 60)
    wait_for("the first point", lambda: (protected.status()["last_cut"] or {}).get("outcome") == "sent", 30)


def newest(site: Site) -> dict[str, Any]:
    return site.manifests()[-1]


def record(protected: Protected) -> Path:
    return protected.folder / "cache/applications.json"


def test_a_requested_point_is_application_consistent(protected: Protected, site: Site, diary: Diary) -> None:
    begin(protected, diary.application("db"), diary.application("queue"))
    outcome = ended(site, site.request_cut(app_consistent=True))
    assert (outcome["state"], outcome["reason"]) == ("point", None), (outcome, protected.log.read_text())
    assert diary.lines() == HELD
    manifest = newest(site)
    assert manifest["kind"] == "application-consistent"
    assert (manifest["applications"], manifest["warning"]) == (["db", "queue"], None)
    assert manifest["frozen"]
    wait_for("the status", lambda: protected.status()["applications"]["last_point"])
    status = protected.status()
    assert status["applications"]["last_point"]["number"] == manifest["number"]
    assert (status["applications"]["warning"], status["last_cut"]["kind"]) == (None, "application-consistent")
    # A point that nobody wants application-consistent disturbs no application.
    ended(site, site.request_cut())
    assert (diary.lines(), newest(site)["kind"]) == (HELD, "crash-consistent")


def test_the_policy_has_them_made_and_the_other_points_go_on(protected: Protected, site: Site, diary: Diary) -> None:
    site.declare_policy(1, 10)
    begin(protected, diary.application("db"))

    def kinds() -> str:
        return "".join("a" if manifest["kind"] == "application-consistent" else "c" for manifest in site.manifests())

    wait_for("both kinds, and both again", lambda: re.search("ac+a", kinds()), 60)
    assert diary.lines()[:4] == ["db pre -", "db post held"] * 2


def test_the_scripts_run_while_nothing_is_frozen(protected: Protected, site: Site, diary: Diary) -> None:
    """Both write to the file system that is frozen in between, and the freeze is as short as without them."""
    inside = protected.folder / "mnt-os"
    writing = (
        f"dd if=/dev/urandom of={inside}/$LIFEBOAT_PHASE bs=1M count=4 2>&1; sync {inside}/$LIFEBOAT_PHASE; sleep 1"
    )
    begin(protected, diary.application("db", pre=writing, post=writing))
    outcome = ended(site, site.request_cut(app_consistent=True))
    assert outcome["state"] == "point"
    manifest = newest(site)
    assert manifest["kind"] == "application-consistent"
    assert manifest["freeze_ms"] < 1000
    protected.wait_drained()
    assert protected.differing_chunks() == []


@pytest.mark.parametrize(
    ("how", "code", "said", "expected"),
    [
        ({"pre": "echo cannot; exit 4"}, "application-failed", "application queue: pre: exit code 4: cannot", "failed"),
        ({"pre": "sleep 60", "timeout": 1}, "application-late", "application queue: pre: ended after 1 s", "failed"),
        ({"post": "echo cannot; exit 5"}, "application-failed", "application queue: post: exit code 5: cannot", "held"),
        ({"post": "sleep 60", "timeout": 1}, "application-late", "application queue: post: ended after 1 s", "held"),
    ],
    ids=["pre fails", "pre hangs", "post fails", "post hangs"],
)
def test_a_failed_or_late_script_gives_a_crash_consistent_point_and_a_named_warning(
    protected: Protected, site: Site, diary: Diary, how: dict[str, Any], code: str, said: str, expected: str
) -> None:
    begin(protected, diary.application("db"), diary.application("queue", **how))
    outcome = ended(site, site.request_cut(app_consistent=True))
    assert (outcome["state"], outcome["reason"]["code"]) == ("point", code), (outcome, protected.log.read_text())
    manifest = newest(site)
    assert (manifest["kind"], manifest["applications"]) == ("crash-consistent", [])
    assert manifest["warning"]["message"] == outcome["reason"]["message"] == said
    assert manifest["warning"]["remedy"]
    assert diary.lines() == ["db pre -", "queue pre -", f"queue post {expected}", f"db post {expected}"]
    assert not record(protected).exists()
    wait_for("the status", lambda: (protected.status()["applications"]["warning"] or {}).get("code") == code)
    # It outlives the agent, until it succeeds.
    protected.stop()
    protected.start()
    wait_for(
        "the status again", lambda: ((protected.status().get("applications") or {}).get("warning") or {}).get("code")
    )


def test_a_cut_that_fails_is_no_point_and_post_runs(protected: Protected, site: Site, diary: Diary) -> None:
    raw = protected.disk("raw", 16 * MIB)
    protected.changes["limits"] = {"tracker_kib": 16384, "buffer_bytes": 32 * MIB}
    begin(protected, diary.application("db"), diary.application("queue"))
    cut = site.request_cut(barrier=True, app_consistent=True)
    wait_for("frozen", lambda: site.cut(cut)["state"] == "frozen", 30)
    assert diary.lines() == HELD[:2]
    raw.write(0, os.urandom(4096))
    site.release(cut)
    outcome = ended(site, cut)
    assert (outcome["state"], outcome["reason"]["code"]) == ("skipped", "busy-unfrozen-writer")
    wait_for("post", lambda: diary.lines() == HELD, 10)
    assert all(manifest["kind"] == "crash-consistent" for manifest in site.manifests())


def killed_while_frozen(protected: Protected, site: Site) -> None:
    cut = site.request_cut(barrier=True, app_consistent=True)
    wait_for("frozen", lambda: site.cut(cut)["state"] == "frozen", 30)
    protected.kill()


def test_an_agent_killed_between_pre_and_post_is_outlived_by_post(
    protected: Protected, site: Site, diary: Diary
) -> None:
    begin(protected, diary.application("db"), diary.application("queue"))
    killed_while_frozen(protected, site)
    wait_for("post, with no agent there", lambda: len(diary.lines()) == 4, 10)
    assert diary.lines()[2:] == ["queue post interrupted", "db post interrupted"]
    protected.start()
    protected.wait_drained()
    assert all(manifest["kind"] == "crash-consistent" for manifest in site.manifests())
    assert len(diary.lines()) == 4


def test_agent_and_holder_killed_post_runs_at_the_next_start(protected: Protected, site: Site, diary: Diary) -> None:
    """As after a power cut: of a restart only the record in /var/cache is left."""
    begin(protected, diary.application("db"), diary.application("queue"))
    cut = site.request_cut(barrier=True, app_consistent=True)
    wait_for("frozen", lambda: site.cut(cut)["state"] == "frozen", 30)
    for process in holders_of(protected):
        os.kill(process, signal.SIGKILL)
    protected.kill()
    assert len(json.loads(record(protected).read_text())["begun"]) == 2
    assert diary.lines() == HELD[:2]
    protected.start()
    wait_for("post", lambda: len(diary.lines()) == 4, 30)
    assert diary.lines()[2:] == ["queue post interrupted", "db post interrupted"]
    wait_for("no record", lambda: not record(protected).exists())
    ended(site, site.request_cut(app_consistent=True))
    assert newest(site)["kind"] == "application-consistent"


def test_a_holder_that_is_killed_makes_no_false_tag(protected: Protected, site: Site, diary: Diary) -> None:
    begin(protected, diary.application("db"))
    cut = site.request_cut(barrier=True, app_consistent=True)
    wait_for("frozen", lambda: site.cut(cut)["state"] == "frozen", 30)
    for process in holders_of(protected):
        os.kill(process, signal.SIGKILL)
    site.release(cut)
    outcome = ended(site, cut)
    assert (outcome["state"], outcome["reason"]["code"]) == ("point", "application-unheld")
    assert newest(site)["kind"] == "crash-consistent"
    wait_for("post", lambda: diary.lines() == ["db pre -", "db post interrupted"], 10)


def test_an_agent_that_is_stopped_lets_post_run(protected: Protected, site: Site, diary: Diary) -> None:
    begin(protected, diary.application("db", pre="sleep 30", timeout=60))
    site.request_cut(app_consistent=True)
    wait_for("the pre", diary.lines)
    assert protected.stop() == 0
    wait_for("post", lambda: diary.lines() == ["db pre -", "db post interrupted"], 10)


def test_a_recovered_copy_ends_what_its_disk_says_was_begun(protected: Protected, diary: Diary) -> None:
    """The disk of a point is one between pre and post; the recovered server must not stay that way."""
    protected.disk("os", 64 * MIB)
    protected.changes["hardware"] = {"product_uuid": "another", "disks": {"os": {"size_bytes": 64 * MIB, "serial": ""}}}
    record(protected).parent.mkdir()
    begun = {"server": "shop1", "cut": "c1", "began": "2026-01-01T00:00:00Z", "begun": [diary.application("db")]}
    record(protected).write_text(json.dumps(begun))
    protected.start()
    protected.wait_mode("copy")
    assert diary.lines() == ["db post interrupted"]
    assert not record(protected).exists()


def test_removal_ends_what_was_begun(protected: Protected, diary: Diary) -> None:
    protected.disk("os", 64 * MIB)
    (protected.folder / "agent.json").write_text(json.dumps(protected.config()))
    record(protected).parent.mkdir()
    begun = {"server": "shop1", "cut": "c1", "began": "2026-01-01T00:00:00Z", "begun": [diary.application("db")]}
    record(protected).write_text(json.dumps(begun))
    command = ["python3", "-m", "agent", "cleanup", "--config", str(protected.folder / "agent.json")]
    subprocess.run(command, check=True, cwd=CHECKOUT)
    assert diary.lines() == ["db post interrupted"]


def test_without_applications_a_request_is_refused_by_name(protected: Protected, site: Site) -> None:
    begin(protected)
    outcome = ended(site, site.request_cut(app_consistent=True))
    assert (outcome["state"], outcome["reason"]["code"]) == ("skipped", "no-applications")


def test_an_agent_that_freezes_nothing_tags_nothing(protected: Protected, site: Site, diary: Diary) -> None:
    protected.run_folder.mkdir(mode=0o700)
    off = {"code": "freeze-deadline", "message": "a cut took 6 s", "remedy": "find out why"}
    mounted = str(protected.folder / "mnt-os")
    (protected.run_folder / "freezing-off.json").write_text(json.dumps({mounted: off}))
    begin(protected, diary.application("db"))
    outcome = ended(site, site.request_cut(app_consistent=True))
    assert (outcome["state"], outcome["reason"]["code"]) == ("point", "application-not-frozen")
    assert newest(site)["kind"] == "crash-consistent"
    assert diary.lines() == ["db pre -", "db post held"]


def test_slow_scripts_hold_up_neither_replication_nor_other_points(
    protected: Protected, site: Site, diary: Diary
) -> None:
    site.declare_policy(1, None)
    begin(protected, diary.application("db", pre="sleep 26", timeout=40))
    raw = protected.disks[0]
    cut = site.request_cut(app_consistent=True)
    wait_for("the pre", diary.lines)
    time.sleep(3)
    points, sent = len(site.manifests()), protected.status()["sent_bytes"]
    fill(raw, [6000], "beside the file system")  # past what mkfs used
    wait_for("replication", lambda: protected.status()["sent_bytes"] > sent + CHUNK, 15)
    wait_for("other points", lambda: len(site.manifests()) > points, 23)
    assert diary.lines() == ["db pre -"]
    assert ended(site, cut)["state"] == "point"
    assert newest(site)["kind"] == "application-consistent"


def holders_of(protected: Protected) -> list[int]:
    """Return the holders that the test's own agent started."""
    assert protected.process is not None
    children = Path(f"/proc/{protected.process.pid}/task").glob("*/children")
    found = [int(number) for path in children for number in path.read_text().split()]
    return [number for number in found if b"hold-applications" in Path(f"/proc/{number}/cmdline").read_bytes()]
