"""A site that lives is refused by name, and what a rebuild wrote is read back or named."""

from __future__ import annotations

import socket
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dr.errors import Corrupt, Refused
from dr.rebuild import alive
from dr.rebuild.alive import RECORD, Record
from dr.schema import load
from dr.target.folders import LOCAL_SUBSCRIPTION
from tests.vault.test_points import point

DECLARATION = load(Path("plans"))
AZURE = "11111111-1111-4111-8111-111111111111"


def test_a_folder_that_holds_a_site_is_refused_and_an_empty_one_is_not(tmp_path: Path) -> None:
    alive.refuse_held(tmp_path / "none")
    (tmp_path / "daemon.json").write_text("{}")
    alive.refuse_held(tmp_path)
    (tmp_path / "certificates.db").write_text("")
    with pytest.raises(Refused) as refused:
        alive.refuse_held(tmp_path)
    assert refused.value.code == "site-alive"
    assert "certificates.db" in refused.value.message


def test_a_listener_where_the_site_is_declared_is_refused() -> None:
    asked: list[tuple[str, int]] = []

    def ask(host: str, port: int) -> bool:
        asked.append((host, port))
        return port == 9443

    with pytest.raises(Refused, match="9443"):
        alive.refuse_listening(DECLARATION.site, AZURE, ask)
    assert asked == [("10.0.2.2", 8443), ("10.0.2.2", 9443)]
    asked.clear()
    alive.refuse_listening(DECLARATION.site, LOCAL_SUBSCRIPTION, lambda host, port: ask(host, port - 1))
    assert asked == [("127.0.0.1", 8442), ("127.0.0.1", 9442)]


def test_a_connection_that_is_accepted_is_an_answer() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
        assert alive.answers("127.0.0.1", port)
    assert not alive.answers("127.0.0.1", port)


def test_a_young_point_wants_a_word() -> None:
    newest = {"shop1": point(1)}
    interval = timedelta(seconds=DECLARATION.policies[DECLARATION.servers["shop1"].policy].crash_consistent_seconds)
    created = newest["shop1"].created_time
    alive.refuse_young(DECLARATION, newest, created + 3 * interval)
    with pytest.raises(Refused) as refused:
        alive.refuse_young(DECLARATION, newest, created + 3 * interval - timedelta(seconds=1))
    assert refused.value.code == "site-may-be-alive"
    alive.refuse_young(DECLARATION, {"gone1": newest["shop1"]}, created)


def test_the_record_is_read_back_and_a_broken_one_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "site"
    assert alive.read_record(folder) is None
    record = Record("harbour", datetime(2026, 5, 17, tzinfo=UTC).isoformat(), None)
    alive.write_record(folder, record)
    assert alive.read_record(folder) == record
    (folder / RECORD).write_text("[]")
    with pytest.raises(Corrupt) as corrupt:
        alive.read_record(folder)
    assert corrupt.value.code == "rebuild-record"
