"""A failover from command to end, on a scripted stack and a vault in memory; and its pure parts."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import validate

from dr import compile as compiler
from dr.errors import NotFound, Refused, RunFailed, Unreachable
from dr.failover.approval import say
from dr.failover.engine import Event, Outcome, follow
from dr.failover.preflight import PreflightFailed
from dr.failover.progress import Progress
from dr.failover.repair import HeldRun, locks, orphans, pending, run_of
from dr.failover.run import Decision, Request, Surroundings, decide, fail_over
from dr.failover.standing import RunStopped, standing
from dr.failover.steps.performing import Doer, Policy, ask, read
from dr.failover.steps.records import Intent, Key, State, Word, blob, to_bytes
from dr.model import Action, ActionKind, Declaration, RunKind
from dr.schema import load
from dr.target.folders import LOCAL_SUBSCRIPTION
from dr.vault.manifest import format_time
from dr.vault.memory import MemoryBlobStore
from dr.vault.store import BlobStore
from tests.provider.worlds import NOW, add_point

CHECKOUT = Path(__file__).parents[2]
LOCKED = (
    "error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to end or delete "
    "the lock file with `pulumi cancel`.\n  file:///state/.pulumi/locks/organization/lifeboat/x/1.json: created by "
    "root@{host} (pid 4711) at 2026-11-23T07:10:27Z"
)
POINT = {"type": "dr:index:RecoveryPoint", "inputs": {"run": "r7", "selector": "latest"}, "custom": True}
WELL = Outcome(True, False, {"create": 7, "same": 1}, ())


@dataclass
class ScriptedStack:
    """Plays one stack: `outcomes` are what each `up` ends with; `calls` is what was asked of it."""

    outcomes: list[Outcome] = field(default_factory=lambda: [WELL])
    deployment: Mapping[str, Any] | None = None
    clearing: list[RunFailed] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    configuration: dict[str, str] = field(default_factory=dict)
    stack: str = "failover-shop-local"

    def state(self) -> Mapping[str, Any] | None:
        return self.deployment

    def configured(self) -> Mapping[str, str]:
        return dict(self.configuration)

    def configure(self, values: Mapping[str, str]) -> None:
        self.configuration.update(values)

    def outputs(self) -> Mapping[str, Any]:
        check = {"endpoint": "127.0.0.1:1", "passedAt": format_time(NOW + timedelta(seconds=42))}
        server = {"server": "shop1", "vm": "shop1", "address": "10.20.1.10", "point": "shop1-1-1"}
        return {"servers": [{**server, "cutTime": format_time(NOW - timedelta(seconds=90)), "checks": [check]}]}

    def unlock(self) -> None:
        self.calls.append("unlock")

    def clear_pending(self) -> None:
        self.calls.append("clear")
        if self.clearing:
            raise self.clearing.pop()
        self.deployment = {**(self.deployment or {}), "pending_operations": []}

    def up(self, report: Callable[[Event], None]) -> Outcome:
        self.calls.append("up")
        return self.outcomes.pop(0)


@pytest.fixture
def store() -> MemoryBlobStore:
    store = MemoryBlobStore()
    add_point(store, 1)
    return store


Make = Callable[..., Surroundings]


@pytest.fixture
def make(store: MemoryBlobStore) -> Make:
    def surroundings(stack: ScriptedStack, **changes: Any) -> Surroundings:
        def open_store(account: str) -> BlobStore:
            return store

        made = Surroundings(
            declaration=load(CHECKOUT / "plans"),
            subscription=LOCAL_SUBSCRIPTION,
            engine=stack,
            prepare=lambda: None,
            store=open_store,
            reach=lambda subscription, resource_group, vm_name, address, port: ("127.0.0.1", port + 10000),
            present=lambda subscription, group: (),
            exists=lambda resource: True,
            now=lambda: NOW,
            say=lambda line: None,
            report=lambda event: None,
            ask=lambda host, port: False,
            process_exists=lambda pid: False,
        )
        return replace(made, **changes)

    return surroundings


REQUEST = Request("shop", None, None, source_may_be_alive=False, replace=False)


def test_the_result_keeps_its_contract(make: Make) -> None:
    stack = ScriptedStack()
    result = fail_over(REQUEST, make(stack)).as_dict()
    validate(result, json.loads((CHECKOUT / "docs/formats/failover.schema.json").read_text()))
    assert (result["rpo_seconds"], result["rto_seconds"], result["changes"]) == (90.0, 42.0, 7)
    assert result["servers"][0]["endpoints"] == {"22": "127.0.0.1:10022", "8080": "127.0.0.1:18080"}
    assert result["healthy"] is True
    assert stack.configuration == {
        "azure-native:subscriptionId": LOCAL_SUBSCRIPTION,
        "dr:run": "20261123120000",
        "dr:point": "latest",
        "dr:sourceMayBeAlive": "",
    }


def test_a_continued_run_counts_from_its_first_start(make: Make) -> None:
    failed = Outcome(False, False, {}, ("it broke",))
    stack = ScriptedStack([failed, WELL])
    with pytest.raises(RunFailed) as caught:
        fail_over(REQUEST, make(stack))
    assert "it broke" in caught.value.message
    assert "dr failover shop" in caught.value.remedy
    stack.deployment = {"resources": [{**POINT, "inputs": {"run": "20261123120000", "selector": "latest"}}]}
    later = make(stack, now=lambda: NOW + timedelta(minutes=5))
    result = fail_over(REQUEST, later)
    assert (result.run, result.rto_seconds) == ("20261123120000", 42.0)


def test_every_obstacle_is_told_before_anything_is_made(make: Make) -> None:
    stack = ScriptedStack()
    empty = MemoryBlobStore()
    with pytest.raises(PreflightFailed) as caught:
        fail_over(REQUEST, make(stack, store=lambda account: empty, exists=lambda resource: False))
    assert "no recovery point" in caught.value.message
    assert "subnet shop" in caught.value.message
    assert stack.calls == []


def with_more(**changes: Any) -> Declaration:
    """Return the example with its plan's one group changed."""
    declaration = load(CHECKOUT / "plans")
    plan = declaration.plans["shop"]
    group = replace(plan.groups[0], **changes)
    return replace(declaration, plans={"shop": replace(plan, groups=(group,))})


def test_a_disk_that_azure_cannot_take_is_an_obstacle(make: Make) -> None:
    grown = MemoryBlobStore()
    add_point(grown, 1, size_bytes=2049 << 30)
    with pytest.raises(PreflightFailed, match=r"disk os of recovery point shop1-1-1 has 2,049\.0 GiB; a Gen1 VM"):
        fail_over(REQUEST, make(ScriptedStack(), store=lambda account: grown))


def test_a_vault_that_does_not_answer_is_an_obstacle(make: Make) -> None:
    def dead(account: str) -> BlobStore:
        raise Unreachable("the store does not answer")

    with pytest.raises(PreflightFailed, match="the vault cannot be read"):
        fail_over(REQUEST, make(ScriptedStack(), store=dead))


def test_an_unknown_plan_is_named_before_anything_else(make: Make) -> None:
    with pytest.raises(NotFound) as caught:
        fail_over(replace(REQUEST, plan="shp"), make(ScriptedStack()))
    assert "shop" in caught.value.remedy


def test_a_living_source_wants_an_explicit_word(make: Make) -> None:
    alive = make(ScriptedStack(), ask=lambda host, port: True)
    with pytest.raises(Refused, match="source may be alive"):
        fail_over(REQUEST, alive)
    stack = ScriptedStack()
    fail_over(replace(REQUEST, source_may_be_alive=True), make(stack, ask=lambda host, port: True))
    assert stack.configuration["dr:sourceMayBeAlive"] == "acknowledged"


def test_the_lock_of_a_dead_engine_is_taken_away(make: Make) -> None:
    locked = Outcome(False, False, {}, (LOCKED.format(host=socket.gethostname()),))
    stack = ScriptedStack([locked, WELL])
    fail_over(REQUEST, make(stack))
    assert stack.calls == ["up", "unlock", "up"]


@pytest.mark.parametrize(("host", "living"), [("elsewhere", False), (socket.gethostname(), True)])
def test_the_lock_of_an_engine_that_may_live_is_respected(make: Make, host: str, living: bool) -> None:
    stack = ScriptedStack([Outcome(False, False, {}, (LOCKED.format(host=host),))])
    with pytest.raises(Refused, match="4711"):
        fail_over(REQUEST, make(stack, process_exists=lambda pid: living))
    assert "unlock" not in stack.calls


def test_an_error_of_the_engine_is_told_without_its_heading() -> None:
    said = "1 error occurred:\n\t* shop1 booted and is not healthy\n\n"
    event = {"diagnosticEvent": {"severity": "error", "message": said}}
    assert follow([json.dumps(event).encode()], lambda event: None).errors == ("shop1 booted and is not healthy",)


def test_a_refused_call_leaves_the_configuration_to_the_one_at_work(make: Make) -> None:
    stack = ScriptedStack([Outcome(False, False, {}, (LOCKED.format(host="elsewhere"),))])
    stack.configuration = {"dr:run": "first", "dr:point": "shop1-1-1"}
    with pytest.raises(Refused, match="4711"):
        fail_over(replace(REQUEST, run="second"), make(stack))
    assert (stack.configuration["dr:run"], stack.configuration["dr:point"]) == ("first", "shop1-1-1")


def test_what_was_cut_off_is_cleared_even_under_a_dead_lock(make: Make) -> None:
    operation = {"type": "creating", "resource": {"urn": "urn:pulumi:s::lifeboat::t::vm"}}
    deployment = {"resources": [POINT], "pending_operations": [operation]}
    locked = RunFailed(LOCKED.format(host=socket.gethostname()))
    stack = ScriptedStack(deployment=deployment, clearing=[locked])
    fail_over(REQUEST, make(stack))
    assert stack.calls == ["clear", "unlock", "clear", "up"]


def test_what_is_in_no_state_is_named(make: Make) -> None:
    stack = ScriptedStack(deployment={"resources": [{**POINT, "id": "/known"}]})
    with pytest.raises(RunFailed) as caught:
        fail_over(REQUEST, make(stack, present=lambda subscription, group: ("/KNOWN", "/orphan")))
    assert "/orphan" in caught.value.message
    assert "/KNOWN" not in caught.value.message
    assert stack.calls == []


def test_decisions() -> None:
    held = HeldRun("r7", "latest")
    assert decide(None, REQUEST, NOW) == Decision("20261123120000", "latest", continues=False)
    assert decide(held, REQUEST, NOW) == Decision("r7", "latest", continues=True)
    assert decide(HeldRun("r7", None), replace(REQUEST, selector="p"), NOW).selector == "p"
    assert decide(None, REQUEST, NOW, "latest-group").selector == "latest-group"
    assert decide(held, REQUEST, NOW, "latest-group").selector == "latest"  # what a run began with, it keeps
    with pytest.raises(Refused, match="r8"):
        decide(held, replace(REQUEST, run="r8"), NOW)
    with pytest.raises(Refused, match="would replace"):
        decide(held, replace(REQUEST, selector="shop1-1-1"), NOW)
    assert decide(held, replace(REQUEST, selector="shop1-1-1", replace=True), NOW).selector == "shop1-1-1"


def test_reading_a_deployment() -> None:
    group = {"type": "azure-native:resources:ResourceGroup", "inputs": {"tags": {"lifeboat-run": "r9"}}, "id": "/g"}
    assert run_of({"resources": [group]}) == HeldRun("r9", None)
    assert run_of({"resources": [group, POINT]}) == HeldRun("r7", "latest")
    assert run_of({}) is None
    assert pending({"pending_operations": [{"type": "deleting", "resource": {"urn": "u"}}]}) == ()
    assert list(orphans({"resources": [group]}, ["/G", "/h"])) == ["/h"]
    assert locks(["something else by root@h (pid 1)"]) == ()


def test_progress_tells_what_is_done_and_drops_what_passes() -> None:
    progress = Progress()
    vm = {"op": "create", "urn": "urn:x::lifeboat::azure-native:compute:VirtualMachine::shop1"}
    metadata = {**vm, "type": "azure-native:compute:VirtualMachine"}
    assert progress.feed({"resourcePreEvent": {"metadata": metadata}}) == []
    passing = {"urn": vm["urn"], "message": "booting\n", "severity": "info", "ephemeral": True}
    assert progress.feed({"diagnosticEvent": passing}) == []
    assert list(progress.working.values()) == ["making VM shop1: booting"]
    assert progress.feed({"resOutputsEvent": {"metadata": metadata}}) == ["made VM shop1"]
    assert progress.working == {}
    assert progress.feed({"diagnosticEvent": {"message": "source may be alive", "severity": "warning"}}) == [
        "warning: source may be alive"
    ]


MANUAL = Action("ask-the-owner", ActionKind.MANUAL, (RunKind.FAILOVER,), 3600, 0, instructions="Call the owner.")
SCRIPT = Action("switch-dns", ActionKind.SCRIPT, (RunKind.FAILOVER,), 300, 0, command=("./switch-dns.sh",))
DRILL = Action("tell-the-chat", ActionKind.SCRIPT, (RunKind.DRILL,), 300, 0, command=("./tell.sh",))
KEY = Key("shop", "r7", "ask-the-owner", "0badcafe")


def resource(kind: str, name: str, **outputs: Any) -> dict[str, Any]:
    urn = f"urn:pulumi:failover-shop-local::lifeboat::{kind}::{name}"
    return {"type": kind, "urn": urn, "id": f"/{name}", "custom": True, "outputs": outputs}


MACHINE = resource("azure-native:compute:VirtualMachine", "shop1")
PASSED = resource("dr:index:HealthCheck", "check-shop1-http-8080", state="passed")
SICK = resource("dr:index:HealthCheck", "check-shop1-http-8080", state="booted, not healthy", lastAnswer="HTTP 503")
ASKED = resource("dr:index:Action", "action-ask-the-owner", state="done", said="approved by olga")
WAITS = resource("dr:index:Action", "action-ask-the-owner", state="paused", said="waits for an approval until noon")
BROKEN = resource("dr:index:Action", "action-switch-dns", state="failed", said="exit code 3: no such zone")
LOST = resource("dr:index:Action", "action-switch-dns", state="unknown", said="nobody saw its end")


@pytest.mark.parametrize(
    ("held", "code", "exit_code", "lines"),
    [
        ([WAITS], "paused", 7, ["step ask-the-owner: paused (waits for an approval until noon)", "shop1: not started"]),
        ([ASKED, MACHINE], "run-failed", 10, ["shop1: booted, not asked yet", "step switch-dns: not reached"]),
        ([ASKED, MACHINE, SICK], "not-healthy", 10, ["shop1: booted, not healthy (HTTP 503)"]),
        (
            [ASKED, MACHINE, PASSED, BROKEN],
            "step-failed",
            10,
            ["shop1: healthy", "step switch-dns: failed (exit code 3"],
        ),
        ([ASKED, MACHINE, PASSED, LOST], "step-unknown", 10, ["step switch-dns: unknown (nobody saw its end)"]),
    ],
)
def test_a_run_that_stopped_says_how_far_it_came(
    make: Make, held: list[dict[str, Any]], code: str, exit_code: int, lines: list[str]
) -> None:
    stack = ScriptedStack([Outcome(False, False, {}, ("it stopped",))], deployment={"resources": [POINT, *held]})
    around = make(stack, declaration=with_more(before=(MANUAL,), after=(SCRIPT, DRILL)))
    with pytest.raises(RunStopped) as caught:
        fail_over(REQUEST, around)
    assert (caught.value.code, caught.value.exit_code) == (code, exit_code)
    for line in lines:
        assert f"    {line}" in caught.value.message
    told = caught.value.as_dict()
    validate(told, json.loads((CHECKOUT / "docs/formats/failover-stopped.schema.json").read_text()))
    assert [step["step"] for step in told["steps"]] == ["ask-the-owner", "switch-dns"], "a drill's action has no part"


def test_a_server_without_a_check_is_told_as_what_it_is() -> None:
    blueprint = compiler.failover(with_more(checks=()), "shop", "r7", "latest", LOCAL_SUBSCRIPTION)
    assert [one.state for one in standing({"resources": [MACHINE]}, blueprint).servers] == ["booted, health unknown"]


def test_an_approval_is_recorded_once_and_by_whom(make: Make, store: MemoryBlobStore) -> None:
    stack = ScriptedStack(deployment={"resources": [POINT]})
    around = make(stack, declaration=with_more(before=(MANUAL,), after=(SCRIPT,)))
    with pytest.raises(NotFound, match="was not reached yet"):
        say(around, "shop", "ask-the-owner", None, "olga")
    ask(store, KEY, Policy(3600), Doer("x", lambda: NOW, lambda seconds: False))
    said = say(around, "shop", "ask-the-owner", None, "olga").as_dict()
    validate(said, json.loads((CHECKOUT / "docs/formats/approve.schema.json").read_text()))
    assert (said["run"], said["word"], said["who"], said["at"]) == ("r7", "approved", "olga", format_time(NOW))
    assert say(around, "shop", "ask-the-owner", None, "hugo").who == "olga"
    assert stack.calls == [], "nothing goes on by itself"
    with pytest.raises(NotFound) as caught:
        say(around, "shop", "ask-the-owners", None, "olga")
    assert caught.value.remedy == 'did you mean "ask-the-owner"?'
    with pytest.raises(NotFound, match="no run of plan shop is at work"):
        say(make(ScriptedStack()), "shop", "ask-the-owner", None, "olga")


def test_a_word_about_an_unknown_step_is_about_its_newest_turn(make: Make, store: MemoryBlobStore) -> None:
    around = make(ScriptedStack(deployment={"resources": [POINT]}), declaration=with_more(after=(SCRIPT,)))
    for turn, began in (("ffffffff", NOW), ("00000000", NOW + timedelta(minutes=1))):
        key, intent = Key("shop", "r7", "switch-dns", turn), Intent("script", began, began, "here")
        store.put("runs", blob(key, 1, intent), to_bytes(key, 1, intent))
    assert say(around, "shop", "switch-dns", Word.AGAIN, "olga").word == "again"
    assert read(store, Key("shop", "r7", "switch-dns", "00000000")).state is State.FAILED
    assert read(store, Key("shop", "r7", "switch-dns", "ffffffff")).state is State.UNKNOWN
