"""`dr:index:Action`: what the records say is what counts, and what is not done has a name in the state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dr.errors import PrerequisiteMissing, RunFailed
from dr.failover.steps import context as contexts
from dr.failover.steps.performing import approve, settle
from dr.failover.steps.records import Intent, Key, Word, blob, to_bytes
from dr.provider.action import Action
from dr.provider.resource import NotReady
from tests.failover.steps.test_webhook import TOKEN, desk
from tests.provider.worlds import NOW, SUBSCRIPTION, Surroundings

POINT = {"point": "shop1-1-7", "cutTime": "2026-11-23T11:59:00.000Z", "selectedTime": "2026-11-23T12:00:00.000Z"}
SERVER = {"server": "shop1", "group": 1, "vm": "shop1", "address": "10.20.1.10", "running": True, **POINT}
BASE = {
    "subscription": SUBSCRIPTION,
    "account": "account",
    "resourceGroup": "rg",
    "plan": "shop",
    "run": "r1",
    "runKind": "failover",
    "step": "switch-dns",
    "group": 1,
    "when": "after",
    "timeout": 30,
    "retries": 0,
    "servers": [SERVER],
}


@pytest.fixture
def kind(around: Surroundings) -> Action:
    return Action(around.world)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIFEBOAT_PLANS", str(tmp_path))
    return tmp_path


def program(folder: Path, text: str) -> dict[str, Any]:
    path = folder / "switch-dns.sh"
    path.write_text(f"#!/bin/sh\necho >>effects\n{text}\n")
    path.chmod(0o755)
    return {**BASE, "kind": "script", "command": ["./switch-dns.sh"]}


def effects(folder: Path) -> int:
    path = folder / "effects"
    return len(path.read_text().splitlines()) if path.exists() else 0


def key(inputs: Mapping[str, Any]) -> Key:
    return contexts.from_properties(inputs).key


def test_a_script_is_done_once_whatever_happens_to_the_state(kind: Action, around: Surroundings, folder: Path) -> None:
    inputs = program(folder, "echo well")
    resource_id, outputs = kind.create(inputs, around.session)
    assert resource_id == "shop/r1/switch-dns"
    assert (outputs["state"], outputs["said"], outputs["attempt"]) == ("done", "exit code 0: well", 1)
    assert kind.create(inputs, around.session)[1] == outputs, "the state was lost, the records were not"
    changed = {**inputs, "timeout": 60}
    assert kind.update(resource_id, outputs, changed, around.session)["state"] == "done"
    kind.delete(resource_id, outputs, around.session)
    assert kind.create(inputs, around.session)[1] == outputs
    assert effects(folder) == 1
    assert kind.due(outputs) is None
    assert kind.read(resource_id, outputs, around.session) == outputs


def test_with_another_point_it_is_done_anew(kind: Action, around: Surroundings, folder: Path) -> None:
    inputs = program(folder, "true")
    resource_id, outputs = kind.create(inputs, around.session)
    other = {**inputs, "servers": [{**SERVER, "point": "shop1-1-8"}]}
    assert kind.update(resource_id, outputs, other, around.session)["state"] == "done"
    assert effects(folder) == 2


def test_one_that_fails_is_named_and_succeeds_with_the_next_call(
    kind: Action, around: Surroundings, folder: Path
) -> None:
    inputs = program(folder, "test -e ready || { echo 'not ready' >&2; exit 3; }")
    with pytest.raises(NotReady, match=r'step "switch-dns" failed: exit code 3: not ready') as caught:
        kind.create(inputs, around.session)
    failed = caught.value
    assert failed.outputs["state"] == "failed"
    assert kind.due(failed.outputs) == "state", "also after a refresh, which forgets that it was not ready"
    name = failed.remedy.rpartition(" ")[2].removeprefix("runs/")
    assert json.loads(around.store.get("runs", name)[0])["output"] == "not ready\n"
    (folder / "ready").touch()
    outputs = kind.update(failed.resource_id, failed.outputs, inputs, around.session)
    assert (outputs["state"], outputs["attempt"], effects(folder)) == ("done", 2, 2)


def test_one_that_was_interrupted_is_unknown_until_a_person_spoke(
    kind: Action, around: Surroundings, folder: Path
) -> None:
    inputs = program(folder, "true")
    intent = Intent("script", NOW, NOW, "elsewhere process 7")
    around.store.put("runs", blob(key(inputs), 1, intent), to_bytes(key(inputs), 1, intent))
    with pytest.raises(NotReady, match=r"unknown: step .* by elsewhere process 7, and nobody saw its end") as caught:
        kind.create(inputs, around.session)
    assert "`dr approve shop switch-dns --done`" in caught.value.remedy
    assert (caught.value.outputs["state"], effects(folder)) == ("unknown", 0)
    settle(around.store, key(inputs), Word.DONE, "olga", NOW)
    outputs = kind.update(caught.value.resource_id, caught.value.outputs, inputs, around.session)
    assert (outputs["state"], outputs["said"], effects(folder)) == ("done", "olga said that it was done", 0)


def test_a_manual_step_pauses_at_once_and_goes_on_when_approved(kind: Action, around: Surroundings) -> None:
    inputs = {**BASE, "kind": "manual", "step": "ask", "instructions": "Call the owner.", "timeout": 3600}
    with pytest.raises(NotReady) as caught:
        kind.create(inputs, around.session)
    assert caught.value.message == (
        'paused: step "ask" waits for an approval until 2026-11-23T13:00:00.000Z: Call the owner.'
    )
    assert caught.value.remedy == "do it, then `dr approve shop ask`"
    approve(around.store, key(inputs), "olga@desk", NOW)
    outputs = kind.update(caught.value.resource_id, caught.value.outputs, inputs, around.session)
    assert (outputs["state"], outputs["said"]) == ("done", "approved by olga@desk at 2026-11-23T12:00:00.000Z")


def test_a_secret_address_is_in_no_state_and_no_record(kind: Action, around: Surroundings) -> None:
    for status in (200, 500):
        with desk(status) as (address, received):
            around.keys.put("chat-hook", address.encode())
            inputs = {**BASE, "kind": "webhook", "step": f"tell-{status}", "urlFrom": {"keyStore": "chat-hook"}}
            try:
                told = repr(kind.create(inputs, around.session))
            except NotReady as error:
                told = repr((error.message, error.remedy, error.outputs))
        assert len(received) == 1
        assert TOKEN not in told
    for name in around.store.list("runs"):
        assert TOKEN.encode() not in around.store.get("runs", name)[0]


def test_a_secret_that_is_missing_is_named_and_leaves_no_trace(kind: Action, around: Surroundings) -> None:
    inputs = {**BASE, "kind": "webhook", "urlFrom": {"env": "NO_SUCH_HOOK"}}
    with pytest.raises(PrerequisiteMissing, match=r"plan shop: action switch-dns: webhook\.urlFrom: .*NO_SUCH_HOOK"):
        kind.create(inputs, around.session)
    assert list(around.store.list("runs")) == []


def test_after_a_ctrl_c_nothing_begins(kind: Action, around: Surroundings, folder: Path) -> None:
    session = around.session
    session.cancelled.set()
    with pytest.raises(RunFailed, match="interrupted before step switch-dns"):
        kind.create(program(folder, "true"), session)
    assert effects(folder) == 0


def test_each_kind_says_what_it_needs(kind: Action) -> None:
    def missing(**inputs: Any) -> list[str]:
        return [problem.property for problem in kind.check({**BASE, **inputs})]

    assert missing(kind="script") == ["command"]
    assert missing(kind="command", command=["true"]) == ["server", "ssh", "port", "vmName", "address"]
    assert missing(kind="webhook") == missing(kind="webhook", url="http://x", urlFrom={"env": "X"}) == ["url"]
    assert missing(kind="manual") == ["instructions"]
    assert missing(kind="prayer") == ["kind"]
