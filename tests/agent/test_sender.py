"""The sending thread against a process server that is a script."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from agent.ledger import Ledger
from agent.link import Answer
from agent.sender import CutParcel, Sender, SenderState
from agent.state import Positions
from dr.errors import Unreachable
from tests.agent.protected import wait_for


class Scripted:
    """Stands for `Link`: answers each opening of the stream as the script says, and fails the first segment."""

    address = "ps1:9443"

    def __init__(self, *openings: Mapping[str, Any]) -> None:
        self.openings = list(openings)
        self.segments: list[str] = []

    def request(self, method: str, path: str, body: object = None, *, seconds: float) -> Answer:
        if method == "POST":
            return Answer(200, dict(self.openings.pop(0)), 0.0)
        self.segments.append(path)
        if len(self.segments) == 1:
            raise Unreachable("cut off")
        return Answer(200, {}, 0.0)


def opening(**changes: object) -> Mapping[str, object]:
    numbers = {"next_sequence": 61, "received_sequence": 60, "stored_sequence": 57, "replica_sequence": 57}
    return {"writer_epoch": 7, **numbers, "store_went_back": False, "replica_empty": False, **changes}


@pytest.fixture
def begun(tmp_path: Path) -> Callable[[Scripted], Sender]:
    """Return what begins to send a cut; 57 was told to be stored."""

    def begin(link: Scripted) -> Sender:
        positions = Positions(str(tmp_path / "positions"))
        positions.set("stored_sequence", 57)
        sender = Sender("shop1", 1, [link], {}, Ledger({}), positions, threading.Event(), lambda: None)  # type: ignore[list-item]  # a script
        sender.start()
        wait_for("the question", lambda: sender.state is SenderState.ASKING, 5)
        positions.set("writer_epoch", 7)
        positions.set("next_sequence", 61)
        sender.put(CutParcel({}, lambda _: None))
        sender.go()
        return sender

    return begin


def test_a_connection_that_was_lost_costs_one_more_opening(begun: Callable[[Scripted], Sender]) -> None:
    link = Scripted(opening(), opening())
    sender = begun(link)
    wait_for("the segment again", lambda: len(link.segments) == 2 and not sender.queued, 5)
    assert len(set(link.segments)) == 1
    sender.stop(1.0)


@pytest.mark.parametrize(
    "again", [{"writer_epoch": 8}, {"replica_sequence": 40, "received_sequence": 40}, {"store_went_back": True}]
)
def test_another_writer_or_a_store_that_went_back_is_asked_about(
    begun: Callable[[Scripted], Sender], again: Mapping[str, object]
) -> None:
    """The store may have forgotten the writer too: whoever claims it next gets the same epoch once more."""
    link = Scripted(opening(), opening(**again))
    sender = begun(link)
    wait_for("the question", lambda: sender.state is SenderState.ASKING, 5)
    assert len(link.segments) == 1 and sender.opened is not None and sender.opened.writer_epoch in {7, 8}
    sender.stop(1.0)
