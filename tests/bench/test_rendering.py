"""The page is made from the results, and the published page from the published results."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bench.__main__ import PAGE, PEERS, RESULTS
from bench.peers import FIRST_COPY
from bench.rendering import BEGIN, END, figure, generated, outcomes, replaced
from bench.results import Row, Run, document

RUN = Run("full", "2026-11-24", 2, "a processor", 24, "6.1.0", "3.11.2", 3, 1, 0.25)


def rows(*given: Row) -> list[dict[str, Any]]:
    return document(given, RUN)


def test_a_row_becomes_a_line_with_a_column_for_each_peer() -> None:
    part = generated(rows(Row("a", "s", "less", 2, {"x | y": 4}), Row("b", "MB/s", "more", 1234, {"z": 617}, 2000)), [])
    assert "| a | s | less | 2 | 4 |  | 2.00 |  |  |  |" in part
    assert "| b | MB/s | more | 1,234 |  | 617 | 2.00 | 2,000 | 0.62 |  |" in part
    assert "x \\| y" in part
    assert (
        "2 cores (a processor), 24 GiB, Linux 6.1.0" in part
        and "Others kept 0.25" in part
        and "First copies 3 times, deltas once." in part
    )


def test_every_command_line_is_printed_and_says_what_it_gives() -> None:
    part = generated(rows(Row("a", "s", "less", 2)), PEERS)
    for peer in PEERS:
        assert f"**{peer.name}**" in part
    assert part.count("```sh") == len({peer.name for peer in PEERS})
    assert part.count("\nrsync --ignore-times") == 2
    assert "not encrypted" in part and "encrypted by TLS" in part and "not synced" in part
    assert "{{" not in part


@pytest.mark.parametrize(("ours", "enough"), [(225.0, True), (224.0, False)])
def test_an_aim_is_reached_or_missed_by_its_figure(ours: float, enough: bool) -> None:
    found = outcomes(rows(Row("initial replication of 8 GiB, `received`", "MB/s", "more", ours)), [])
    assert [(text.endswith("225 MB/s or more"), reached) for text, _, reached in found] == [(True, enough)]
    assert ("**missed**" in generated(rows(Row("initial, `received`", "MB/s", "more", ours)), [])) is not enough


def test_only_peers_with_tls_and_fsync_count_for_being_ahead() -> None:
    measured = {"nbdcopy from nbdkit": 100.0, "qemu-img convert from qemu-nbd": 900.0}
    row = Row("initial replication of 8 GiB, `received`", "MB/s", "more", 150.0, measured)
    ahead = [(reached, enough) for text, reached, enough in outcomes(rows(row), FIRST_COPY) if "ahead" in text]
    assert ahead == [("1.5 times nbdcopy from nbdkit", True)]


def test_replacing_keeps_what_people_wrote() -> None:
    page = f"# before\n{BEGIN}\nold\n{END}\nafter\n"
    part = generated(rows(Row("a", "s", "less", 2)), [])
    assert replaced(page, part).startswith("# before\n") and replaced(page, part).endswith("\nafter\n")
    assert "old" not in replaced(page, part)
    assert replaced(replaced(page, part), part) == replaced(page, part)
    with pytest.raises(ValueError, match="no place"):
        replaced("# nothing\n", part)


def test_the_published_page_shows_the_published_results() -> None:
    published = json.loads(RESULTS.read_text())
    assert replaced(PAGE.read_text(), generated(published, PEERS)) == PAGE.read_text()


def test_published_results_say_nothing_of_where_they_were_measured() -> None:
    text = RESULTS.read_text()
    assert '"/' not in text and "@" not in text and "127.0.0.1" not in text
    assert {row["run"]["size"] for row in json.loads(text)} <= {"full", "short"}


@pytest.mark.parametrize(
    ("value", "text"), [(None, ""), (0.0123, "0.0123"), (2.0, "2"), (99.94, "99.9"), (1234.5, "1,234")]
)
def test_figures_have_three_digits(value: float | None, text: str) -> None:
    assert figure(value) == text
