"""The holder of the applications: whatever happens, post runs for each pre, and nothing is called held falsely."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.application import parse
from tests.agent.applications import Diary, RunningHolder
from tests.agent.protected import wait_for

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]

IN_ORDER = ["db pre -", "queue pre -"]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path / "scripts")


def test_pre_in_order_and_post_in_reverse(tmp_path: Path, diary: Diary) -> None:
    holder = RunningHolder(tmp_path, [diary.application("db"), diary.application("queue", timeout=7)])
    assert holder.answer() == {"prepared": True}
    assert diary.lines() == IN_ORDER
    assert [each["name"] for each in json.loads(holder.record.read_text())["begun"]] == ["db", "queue"]
    assert holder.end() == {"ended": True, "reason": None}
    assert diary.lines() == [*IN_ORDER, "queue post held", "db post held"]
    assert not holder.record.exists()


def test_a_script_is_told_what_happens_and_when(tmp_path: Path, diary: Diary) -> None:
    holder = RunningHolder(tmp_path, [diary.application("queue", timeout=7)])
    holder.answer()
    holder.end()
    pre, post = diary.told("queue-pre"), diary.told("queue-post")
    assert {name: pre[name] for name in pre if name.startswith("LIFEBOAT_") and name != "LIFEBOAT_BEGAN"} == {
        "LIFEBOAT_PHASE": "pre",
        "LIFEBOAT_APPLICATION": "queue",
        "LIFEBOAT_SERVER": "shop1",
        "LIFEBOAT_CUT": "cut-1",
        "LIFEBOAT_TIMEOUT_SECONDS": "7",
    }
    assert (post["LIFEBOAT_CUT"], post["LIFEBOAT_BEGAN"]) == ("cut-1", pre["LIFEBOAT_BEGAN"])
    assert post["LIFEBOAT_OUTCOME"] == "held"
    assert pre["LIFEBOAT_BEGAN"].endswith("Z")
    assert "PYTHONPATH" not in pre


def test_a_pre_that_fails_undoes_what_was_begun_and_says_why(tmp_path: Path, diary: Diary) -> None:
    failing = diary.application("queue", pre="seq 10000; echo 'the queue is stuck' >&2; exit 3")
    holder = RunningHolder(tmp_path, [diary.application("db"), failing, diary.application("web")])
    answer = holder.answer()
    assert answer["prepared"] is False
    reason = answer["reason"]
    assert reason["code"] == "application-failed"
    assert reason["message"].startswith("application queue: pre: exit code 3: ")
    assert reason["message"].endswith("the queue is stuck")
    assert len(reason["message"]) < 2200
    assert diary.lines() == [*IN_ORDER, "queue post failed", "db post failed"]
    assert not holder.record.exists()


def test_a_pre_that_hangs_is_ended_with_all_its_children(tmp_path: Path, diary: Diary) -> None:
    hanging = diary.application("queue", pre=f"trap '' TERM; sleep 77 & echo $! >{tmp_path}/child; wait", timeout=1)
    began = time.monotonic()
    holder = RunningHolder(tmp_path, [diary.application("db"), hanging])
    reason = holder.answer()["reason"]
    assert reason["code"] == "application-late"
    assert reason["message"].startswith("application queue: pre: ended after 1 s")
    assert time.monotonic() - began < 8
    assert not alive(int((tmp_path / "child").read_text()))
    assert diary.lines() == [*IN_ORDER, "queue post failed", "db post failed"]


def test_a_post_that_fails_or_hangs_keeps_no_other_from_running(tmp_path: Path, diary: Diary) -> None:
    applications = [
        diary.application("db"),
        diary.application("queue", post="sleep 77", timeout=1),
        diary.application("web", post="echo no; exit 1"),
    ]
    holder = RunningHolder(tmp_path, applications)
    assert holder.answer() == {"prepared": True}
    reason = holder.end()["reason"]
    assert (reason["code"], reason["message"]) == ("application-failed", "application web: post: exit code 1: no")
    assert diary.lines()[3:] == ["web post held", "queue post held", "db post held"]
    assert not holder.record.exists()


def stop(holder: RunningHolder) -> None:
    holder.process.send_signal(signal.SIGTERM)


@pytest.mark.parametrize("ending", [RunningHolder.leave, stop], ids=["the agent is gone", "the system stops"])
def test_post_runs_at_once_when_the_agent_is_gone(
    tmp_path: Path, diary: Diary, ending: Callable[[RunningHolder], None]
) -> None:
    holder = RunningHolder(tmp_path, [diary.application("db"), diary.application("queue")])
    holder.answer()
    ending(holder)
    assert holder.process.wait(10) == 0
    assert diary.lines() == [*IN_ORDER, "queue post interrupted", "db post interrupted"]


def test_a_pre_that_nobody_waits_for_is_ended_and_undone(tmp_path: Path, diary: Diary) -> None:
    holder = RunningHolder(tmp_path, [diary.application("db", pre="sleep 77", timeout=60)])
    wait_for("the pre", diary.lines)
    holder.leave()
    assert holder.process.wait(10) == 0
    assert diary.lines() == ["db pre -", "db post interrupted"]


def test_what_a_killed_holder_left_is_mended_by_the_next_with_its_own_scripts(tmp_path: Path, diary: Diary) -> None:
    holder = RunningHolder(tmp_path, [diary.application("db"), diary.application("queue")])
    holder.answer()
    holder.process.kill()
    holder.process.wait()
    assert diary.lines() == IN_ORDER
    mending = RunningHolder(tmp_path, [], cut="")  # the declaration has no applications any more
    assert mending.answer() == {"ended": True, "reason": None}
    assert diary.lines() == [*IN_ORDER, "queue post interrupted", "db post interrupted"]
    assert diary.told("db-post")["LIFEBOAT_CUT"] == "cut-1"
    again = RunningHolder(tmp_path, [], cut="")
    assert again.answer() == {"ended": True, "reason": None}
    assert len(diary.lines()) == 4


def test_a_holder_killed_in_the_middle_of_a_pre_leaves_a_record_and_no_script(tmp_path: Path, diary: Diary) -> None:
    """What was begun is on disk before it begins, and half a script does not go on by itself."""
    holder = RunningHolder(tmp_path, [diary.application("db", pre="sleep 3; echo late >>$0.late")])
    wait_for("the pre", diary.lines)
    holder.process.kill()
    holder.process.wait()
    mending = RunningHolder(tmp_path, [], cut="")
    assert mending.answer() == {"ended": True, "reason": None}
    assert diary.lines() == ["db pre -", "db post interrupted"]
    time.sleep(3)
    assert not list(diary.folder.glob("*.late"))


def test_the_next_holder_waits_for_the_one_before(tmp_path: Path, diary: Diary) -> None:
    first = RunningHolder(tmp_path, [diary.application("db", post="sleep 1")])
    first.answer()
    second = RunningHolder(tmp_path, [diary.application("queue")], cut="cut-2")
    first.leave()
    assert second.answer() == {"prepared": True}
    assert diary.lines() == ["db pre -", "db post interrupted", "queue pre -"]
    second.end()


def test_a_holder_that_is_forgotten_lets_go_by_itself(tmp_path: Path, diary: Diary) -> None:
    holder = RunningHolder(tmp_path, [diary.application("db")], hold_seconds=1)
    assert holder.answer() == {"prepared": True}
    answer = holder.answer()
    assert answer["reason"]["code"] == "application-late"
    assert diary.lines() == ["db pre -", "db post late"]


def test_a_program_that_others_may_change_is_not_run_as_root(tmp_path: Path, diary: Diary) -> None:
    unsafe = diary.application("db")
    Path(unsafe["pre"][0]).chmod(0o777)
    reason = RunningHolder(tmp_path, [unsafe]).answer()["reason"]
    assert "others than root may change" in reason["message"]
    assert diary.lines() == ["db post failed"]


def test_a_program_that_is_not_there_is_named(tmp_path: Path, diary: Diary) -> None:
    gone = {**diary.application("db"), "pre": ["/usr/local/sbin/no-such-program"]}
    reason = RunningHolder(tmp_path, [gone]).answer()["reason"]
    assert "/usr/local/sbin/no-such-program: No such file" in reason["message"]


def test_without_room_for_its_record_nothing_is_begun(tmp_path: Path, diary: Diary) -> None:
    (tmp_path / "cache/applications.json.new").mkdir(parents=True)  # nothing can be written there
    answer = RunningHolder(tmp_path, [diary.application("db")]).answer()
    assert (answer["prepared"], answer["reason"]["code"]) == (False, "cannot-remember")
    assert "db pre -" not in diary.lines()


def test_an_application_must_say_what_to_run() -> None:
    with pytest.raises(ValueError, match="no pre and post"):
        parse({"name": "db", "timeout_seconds": 5, "pre": ["/bin/true"]})
    with pytest.raises(ValueError, match="no drop-in"):
        parse({"name": "db", "timeout_seconds": 5, "use": "oracle"})
