"""What is kept of a program's words, and what a step is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as some
from jsonschema import validate

from dr.failover.steps.context import ServerContext, StepContext, from_properties, to_bytes, turn_of
from dr.failover.steps.output import HEAD_BYTES, HIDDEN, TAIL_BYTES, Output, last_line

SERVER = ServerContext("shop1", 1, "vm1", "10.20.1.10", True, "shop1-1-7", "2026-11-23T12:00:00.000Z", "then")
CONTEXT = StepContext("shop", "r1", "failover", "switch-dns", 1, "after", "rg", (SERVER,))
SECRET = "Tide & Table"


@settings(deadline=None, max_examples=60)
@given(some.lists(some.integers(0, 40_000), max_size=8), some.integers(0, 70_000))
def test_no_secret_is_kept_wherever_it_stands(sizes: list[int], at: int) -> None:
    whole = b"".join(b"%d-" % number * (size // 2) for number, size in enumerate(sizes))
    whole = whole[:at] + SECRET.encode() + whole[at:] + SECRET.encode() + b"\n"
    output = Output()
    for start in range(0, len(whole), 7000):
        output.feed(whole[start : start + 7000])
    text, left_out = output.kept([SECRET])
    assert SECRET not in text
    assert SECRET[:-1] not in text, "not even a part of it"
    assert SECRET[1:] not in text
    assert text.endswith(f"{HIDDEN}\n")
    assert left_out == max(0, len(whole) - HEAD_BYTES - TAIL_BYTES)
    assert len(text) < HEAD_BYTES + TAIL_BYTES + 200


def test_a_short_output_is_whole_and_harmless() -> None:
    output = Output()
    output.feed(b"one\r\n\x1b[2Jtwo \xff\n\n")
    assert output.kept() == ("one\n�[2Jtwo \\xff\n\n", 0)
    assert last_line(output.kept()[0]) == "�[2Jtwo \\xff"
    assert (Output().kept(), last_line("")) == (("", 0), "")


def test_the_context_keeps_its_contract() -> None:
    told = json.loads(to_bytes(CONTEXT, 2))
    schema = Path(__file__).parents[3] / "docs/formats/step-context.schema.json"
    validate(told, json.loads(schema.read_text()))
    assert (told["idempotency_key"], told["attempt"]) == (f"shop/r1/switch-dns/{turn_of([SERVER])}", 2)


def test_other_points_are_another_turn_and_nothing_else_is() -> None:
    turn = turn_of([SERVER])
    assert turn_of([replace(SERVER, vm="vm2", address="10.20.1.11")]) == turn
    assert turn_of([replace(SERVER, point="shop1-1-8")]) != turn
    assert turn_of([replace(SERVER, selected_time="later")]) != turn, "a run that was destroyed and begun anew"


def test_the_context_comes_from_a_resources_properties() -> None:
    server = {"server": "shop1", "group": 1, "vm": "vm1", "address": "10.20.1.10", "running": True}
    point = {"point": "shop1-1-7", "cutTime": SERVER.cut_time, "selectedTime": "then"}
    run = {"plan": "shop", "run": "r1", "runKind": "failover", "step": "switch-dns", "group": 1, "when": "after"}
    assert from_properties({**run, "resourceGroup": "rg", "servers": [{**server, **point}]}) == CONTEXT
