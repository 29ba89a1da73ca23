"""Which shapes of servers are tried, and the page that says so."""

from __future__ import annotations

import itertools

import pytest

from tools.machines import support
from tools.machines.shape import ALL, DEBIANS, FILE_SYSTEMS, FIRMWARES, LAYOUTS, SHORT, Shape, chosen

VALUES = {"debian": DEBIANS, "firmware": FIRMWARES, "layout": tuple(LAYOUTS), "file_system": FILE_SYSTEMS}


def combinations(shapes: tuple[Shape, ...], *words: str) -> set[tuple[object, ...]]:
    return {tuple(getattr(shape, word) for word in words) for shape in shapes}


@pytest.mark.parametrize("word", VALUES)
def test_the_short_list_holds_every_value(word: str) -> None:
    assert combinations(SHORT, word) == {(value,) for value in VALUES[word]}


@pytest.mark.parametrize(
    "words",
    [("debian", "firmware", "file_system"), ("layout", "debian"), ("layout", "firmware"), ("layout", "file_system")],
)
def test_the_long_list_holds_every_combination_of(words: tuple[str, ...]) -> None:
    assert combinations(ALL, *words) == set(itertools.product(*(VALUES[word] for word in words)))


def test_no_shape_is_tried_twice_and_names_are_fit_for_servers() -> None:
    assert len({shape.name for shape in ALL}) == len(ALL)
    assert ALL[: len(SHORT)] == SHORT


def row(shape: Shape, seconds: int = 10) -> support.Row:
    return support.Row(shape, "6.1", "3.11", seconds, 20, "2026-01-31")


def test_the_page_is_read_back_as_it_was_written() -> None:
    rows = [row(shape, 10 * n) for n, shape in enumerate(ALL)]
    assert support.read(support.page(rows)) == rows
    assert support.page(reversed(rows)) == support.page(rows)
    assert support.read(support.page([row(ALL[0], 31)]))[0].replication_seconds == 40


def test_the_page_names_what_never_came_through() -> None:
    assert f"not run to its end yet: {ALL[-1].name}.\n" in support.page(map(row, ALL[:-1])).lower()
    assert "not run to its end" not in support.page(map(row, ALL)).lower()


def test_shapes_are_chosen_by_a_word_or_by_their_names() -> None:
    assert chosen("all") == ALL
    assert chosen("short") == SHORT
    assert chosen(f"{ALL[7].name} {ALL[2].name}") == (ALL[2], ALL[7])
    for wrong in ("", "d10-bios-plain-ext4", "short all"):
        with pytest.raises(ValueError, match="no shape is called"):
            chosen(wrong)
