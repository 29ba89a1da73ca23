"""A plan as a graph, under mocks: what waits for what, over three groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from dr import compile as compiler
from dr.model import Action, ActionKind, Declaration, RunKind
from dr.target.folders import LOCAL_SUBSCRIPTION
from stacks import failover
from tests.declaration.test_whole import declared, whole
from tests.stacks.mocked import Recorder, Run, mocked


def action(name: str, *runs: RunKind) -> Action:
    return Action(name, ActionKind.SCRIPT, runs or (RunKind.FAILOVER,), 300, 0, command=(f"./{name}",))


def three_groups() -> Declaration:
    """db1 with a check and actions around it; db2 without any check; web1 with three checks."""
    estate = declared(whole())
    plan = estate.plans["shop"]
    databases, web = plan.groups
    groups = (
        replace(
            databases,
            servers=("db1",),
            checks=databases.checks[:1],
            before=(action("first"), action("drill-only", RunKind.DRILL), action("second")),
            after=(action("third"), action("fourth")),
        ),
        replace(databases, servers=("db2",), checks=(), before=(), after=()),
        replace(web, before=(action("fifth"),), after=(action("sixth"),)),
    )
    return replace(estate, plans={"shop": replace(plan, groups=groups)})


@pytest.fixture(scope="module")
def made() -> Iterator[Recorder]:
    with mocked() as run:
        yield registered(run, three_groups())


def registered(run: Run, estate: Declaration) -> Recorder:
    blueprint = compiler.failover(estate, "shop", "r1", "latest", LOCAL_SUBSCRIPTION)
    return run(lambda: failover.program(blueprint, LOCAL_SUBSCRIPTION))


def waits_for(made: Recorder) -> dict[str, set[str]]:
    """Return, for each resource, everything that it waits for, near and far."""
    direct = {request.name: {urn.rpartition("::")[2] for urn in request.dependencies} for request in made.requests}
    found: dict[str, set[str]] = {}

    def all_of(name: str) -> set[str]:
        if name not in found:
            found[name] = set()
            for other in direct.get(name, set()):
                found[name] |= {other} | all_of(other)
        return found[name]

    return {name: all_of(name) for name in direct}


def test_every_step_waits_for_the_one_before_it(made: Recorder) -> None:
    waits = waits_for(made)
    checks = [name for name in waits if name.startswith("check-web1")]
    assert len(checks) == 3
    order = [
        ["action-first"],
        ["action-second"],
        ["db1"],
        ["check-db1-sql-5432"],
        ["action-third"],
        ["action-fourth"],
        ["db2"],
        ["action-fifth"],
        ["web-vm"],
        checks,
        ["action-sixth"],
    ]
    for earlier, later in pairwise(order):
        for name in later:
            assert set(earlier) <= waits[name], f"{name} does not wait for {earlier}"
    assert "action-drill-only" not in waits


def test_nothing_waits_backwards_and_what_only_prepares_waits_for_no_step(made: Recorder) -> None:
    waits = waits_for(made)
    assert not [name for name, others in waits.items() if name in others]
    for name, others in waits.items():
        if name.startswith(("point-", "copy-", "disk-", "nic-")):
            assert not [
                other for other in others if other.startswith(("action-", "check-")) or other in {"db1", "web-vm"}
            ]


def test_the_servers_of_a_group_start_side_by_side() -> None:
    with mocked() as run:
        made = registered(run, declared(whole()))
    waits = waits_for(made)
    assert "db2" not in waits["db1"]
    assert "db1" not in waits["db2"]
    assert {"check-db1-sql-5432", "check-db2-sql-3306", "action-warm-up"} <= waits["web-vm"]


def test_a_step_is_told_the_servers_up_to_its_own_group(made: Recorder) -> None:
    def told(name: str) -> list[tuple[Any, ...]]:
        inputs = made.of("dr:index:Action")[name]
        assert (inputs["plan"], inputs["run"], inputs["runKind"]) == ("shop", "r1", "failover")
        return [(one["server"], one["group"], one["vm"], one["address"], one["running"]) for one in inputs["servers"]]

    db1, db2 = ("db1", 1, "db1", "10.20.2.10"), ("db2", 2, "db2", "10.20.2.11")
    assert told("action-first") == told("action-second") == [(*db1, False)]
    assert told("action-fourth") == [(*db1, True)]
    assert told("action-fifth") == [(*db1, True), (*db2, True), ("web1", 3, "web-vm", "10.20.1.10", False)]
    assert told("action-sixth")[-1][-1] is True
    (server,) = made.of("dr:index:Action")["action-first"]["servers"]
    assert (server["point"], server["cutTime"]) == ("shop1-1-7", "2026-11-23T12:00:00.000Z")
    assert server["selectedTime"] == "2026-11-23T12:00:30.000Z"


def test_no_secret_is_in_an_actions_inputs() -> None:
    estate = declared(whole())
    hook = next(one for one in estate.plans["shop"].groups[1].after if one.url_from is not None)
    group = replace(estate.plans["shop"].groups[1], after=(replace(hook, runs=(RunKind.FAILOVER,)),))
    plan = replace(estate.plans["shop"], groups=(estate.plans["shop"].groups[0], group))
    with mocked() as run:
        made = registered(run, replace(estate, plans={"shop": plan}))
    actions = made.of("dr:index:Action")
    assert actions["action-tell-the-chat"]["urlFrom"] == {"env": "CHAT_HOOK"}
    warm_up = actions["action-warm-up"]
    assert (warm_up["server"], warm_up["vmName"], warm_up["port"]) == ("db1", "db1", 22)
    assert warm_up["ssh"]["password"] == {"env": "DB1_PASSWORD"}
