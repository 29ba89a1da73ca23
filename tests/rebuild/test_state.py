"""The rounds of an import, with a stack that is played: what is absent is asked for once, and named."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from dr.errors import RunFailed
from dr.failover.engine import Event, Outcome
from dr.rebuild.state import Recovered

GROUP = "azure-native:resources:ResourceGroup"


class Played:
    """A stack whose program wants `wanted`; of these only `existing` can be imported."""

    stack = "site-local"

    def __init__(self, wanted: list[str], existing: set[str], *, broken: bool = False) -> None:
        self._wanted, self._existing, self._broken = wanted, existing, broken
        self.held: list[str] = []
        self.asked: list[list[str]] = []

    def unlock(self) -> None:
        raise AssertionError("nobody holds a lock")

    def state(self) -> Mapping[str, Any] | None:
        return {"resources": [{"urn": urn(name)} for name in self.held]}

    def clear_pending(self) -> None:
        raise AssertionError("nothing is pending")

    def preview(self, *options: str, import_file: Path) -> Mapping[str, Any]:
        todo = [name for name in self._wanted if name not in self.held]
        import_file.write_text(json.dumps({"resources": [{"type": GROUP, "name": name, "id": "?"} for name in todo]}))
        return {
            "steps": [{"op": "create", "urn": urn(n), "newState": {"type": GROUP, "inputs": {"name": n}}} for n in todo]
        }

    def take_in(self, import_file: Path, *, protect: bool, report: Callable[[Event], None]) -> Outcome:
        asked = [entry["id"] for entry in json.loads(import_file.read_text())["resources"]]
        self.asked.append(asked)
        absent = [each for each in asked if each.rpartition("/")[2] not in self._existing]
        if self._broken:
            return Outcome(False, False, {}, ("the plugin ended",))
        self.held += [each.rpartition("/")[2] for each in asked if each not in absent]
        return Outcome(not absent, False, {}, tuple(f"resource '{each}' does not exist" for each in absent))

    def up_some(self, report: Callable[[Event], None], *options: str) -> Outcome:
        raise AssertionError("nothing of ours is to be made")


def urn(name: str) -> str:
    return f"urn:pulumi:site-local::lifeboat::{GROUP}::{name}"


def recovered(stack: Played) -> Recovered:
    return Recovered(
        stack,
        protect=False,
        id_of=lambda kind, inputs: f"/groups/{inputs['name']}",
        say=lambda line: None,
        report=lambda event: None,
    )


def test_what_does_not_exist_is_asked_for_once_and_named() -> None:
    stack = Played(["a", "b", "c"], {"a", "c"})
    work = recovered(stack)
    result = work.run()
    assert sorted(result.imported) == ["a", "c"]
    assert stack.asked == [["/groups/a", "/groups/b", "/groups/c"]]
    assert result.left == ["create ResourceGroup b"]
    assert [(state.about, state.code) for state in work.states] == [("site-local", "stack-differs")]


def test_an_import_that_fails_for_another_reason_ends_with_its_words() -> None:
    with pytest.raises(RunFailed, match="the plugin ended"):
        recovered(Played(["a"], {"a"}, broken=True)).run()
