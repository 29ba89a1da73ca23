"""What one server's agent says may spoil neither the others' status nor the operator's terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dr.config_server.client import SiteClient
from dr.plain import plain
from tests.config_server.rig import RunningSite, build_site, running_site
from tests.config_server.test_cuts_and_health import SCHEMA, STATUS

HEARTBEAT = "/v1/agents/shop1/heartbeat"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    folder: Path = tmp_path_factory.mktemp("site")
    build_site(folder)
    with running_site(folder) as running:
        yield running


@pytest.mark.parametrize(
    "said",
    [
        {"mode": "resync", "initial_bytes_total": 7, "initial_bytes_done": 1 << 62},
        {"reason": {"code": 1, "message": [2], "remedy": {"a": 1}}},
        {"reason": {"code": "\ud800 X", "message": "\udcff\x1b]0;title\x07", "remedy": ""}},
        {"reason": {"code": "x"}, "mode": "copy"},
        {"freezing": {"off": [1]}, "last_cut": {"outcome": "skipped", "reason": [1]}},
    ],
)
def test_strange_words_keep_the_schema(site: RunningSite, said: dict[str, object]) -> None:
    assert site.agent()("POST", HEARTBEAT, {**STATUS, **said})[0] == 200
    SCHEMA.validate(SiteClient(site.folder).status())


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({**STATUS, "initial_bytes_total": "7", "initial_bytes_done": "5", "mode": "resync"}),
        json.dumps({**STATUS, "more": 0.5}).replace("0.5", "1e999"),
        json.dumps({**STATUS, "more": 0.5}).replace("0.5", "[" * 900 + "]" * 900),
    ],
)
def test_what_would_break_the_status_of_all_is_refused(site: RunningSite, body: str) -> None:
    assert site.agent().code("POST", HEARTBEAT, body.encode()) == (400, "request-invalid")
    SCHEMA.validate(SiteClient(site.folder).status())


def test_nothing_reaches_the_terminal_that_cannot_be_seen() -> None:
    shown = plain("/mnt/\udcff\x1b]0;title\x07\x9b2J\u202eabc\r\nnext é 日本")
    assert shown == "/mnt/��]0;title��2J�abc�\nnext é 日本"
