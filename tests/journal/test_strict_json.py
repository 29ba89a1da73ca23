"""What a peer's JSON may be: nothing that a later reader could not read or write again."""

from __future__ import annotations

import json

import pytest

from dr.journal.strict_json import MAX_DEPTH, loads


def nested(depth: int, opening: str, closing: str) -> str:
    return opening * depth + "1" + closing * depth


@pytest.mark.parametrize(
    "text",
    [
        "NaN",
        '{"a": Infinity}',
        '{"a": 1e999}',
        '{"a": [-1e400]}',
        nested(MAX_DEPTH + 1, "[", "]"),
        nested(MAX_DEPTH + 1, '{"a":', "}"),
        nested(960, "[", "]"),
        "[" * 1_000_000,
        "9" * 5000,
        "",
        b"\xff",
    ],
)
def test_what_a_later_reader_could_not_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        loads(text)


@pytest.mark.parametrize("value", [None, 1, 1.5, "[[[[", {"a": [1, {"b": []}]}, "\x1b[2J"])
def test_json_is_read(value: object) -> None:
    assert loads(json.dumps(value)) == value
    assert loads(json.dumps(value).encode()) == value


def test_the_deepest_that_is_read() -> None:
    assert loads(nested(MAX_DEPTH, "[", "]")) is not None
