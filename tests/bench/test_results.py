"""Rows, ratios and limits: pure parts of the bench. No test looks at how fast anything was."""

from __future__ import annotations

import json

import pytest

from bench.limits import Stage, limit_bytes_per_second, slowest
from bench.results import Row, Run, document, rounded, to_json

RUN = Run("short", "2026-11-24", 2, "a processor", 24, "6.1.0", "3.11.2", 3, 1, 0.1)
KEYS = ["name", "unit", "better", "ours", "peers", "ratio_to_best_peer", "limit", "ratio_to_limit", "note", "run"]


def test_more_is_better_compares_with_the_fastest_peer() -> None:
    row = Row("speed", "MB/s", "more", 300, {"a": 100, "b": 200}, 400)
    assert (row.best_peer, row.ratio_to_best_peer, row.ratio_to_limit) == (200, 1.5, 0.75)


def test_less_is_better_compares_with_the_quickest_peer() -> None:
    row = Row("time", "s", "less", 4, {"a": 10, "b": 6}, 3)
    assert (row.best_peer, row.ratio_to_best_peer, row.ratio_to_limit) == (6, 1.5, 0.75)


@pytest.mark.parametrize("better", ["more", "less"])
def test_without_peers_and_limit_there_are_no_ratios(better: str) -> None:
    row = Row("alone", "MiB", "more" if better == "more" else "less", 4)
    assert (row.best_peer, row.ratio_to_best_peer, row.ratio_to_limit) == (None, None, None)


def test_nothing_measured_is_no_ratio() -> None:
    assert Row("speed", "MB/s", "more", 4, {"a": 0}).ratio_to_best_peer is None
    assert Row("time", "s", "less", 0, {"a": 1}).ratio_to_best_peer is None


def test_the_document_has_the_promised_keys_and_a_row_a_line() -> None:
    rows = document([Row("speed", "MB/s", "more", 1 / 3, {"a": 1234.56}), Row("µ", "µs", "less", 2)], RUN)
    text = to_json(rows)
    assert json.loads(text) == rows
    assert [list(row) for row in rows] == [KEYS, KEYS]
    assert len(text.splitlines()) == 4
    assert rows[0]["ours"] == 0.333 and rows[0]["peers"] == {"a": 1235.0}
    assert rows[0]["ratio_to_best_peer"] == rounded(1 / 3 / 1234.56)


def test_the_limit_is_the_slowest_stage_or_what_the_processors_allow() -> None:
    read, pack = Stage("read", 1000.0, 0.0001), Stage("pack", 400.0, 0.0024)
    assert slowest([read, pack]) == pack
    assert limit_bytes_per_second([read, pack], cores=2) == 400.0
    assert limit_bytes_per_second([read, pack], cores=1) == 400.0
    assert limit_bytes_per_second([read, pack, Stage("hash", 500.0, 0.0025)], cores=2) == pytest.approx(400.0)
    assert limit_bytes_per_second([read, pack, Stage("hash", 500.0, 0.0025)], cores=1) == pytest.approx(200.0)
    assert limit_bytes_per_second([Stage("free", 7.0, 0.0)], cores=1) == 7.0
