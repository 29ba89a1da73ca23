"""The shop proves what it holds: a prefix can be checked later, and a changed row is noticed."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools.machines.shop import shop


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = shop.connect(str(tmp_path / "orders.db"))
    yield connection
    connection.close()


def test_an_empty_shop_is_sound(database: sqlite3.Connection) -> None:
    assert shop.state(database) == {"orders": 0, "last": None, "chain": shop.GENESIS, "integrity": "ok"}
    assert "<b>0</b> orders" in shop.page(database)


def test_a_prefix_keeps_its_chain_when_orders_are_added(database: sqlite3.Connection) -> None:
    for second in range(5):
        shop.place_order(database, f"2026-01-01T00:00:0{second}")
    then = shop.state(database)
    for second in range(5, 9):
        shop.place_order(database, f"2026-01-01T00:00:0{second}")
    assert shop.state(database)["orders"] == 9
    assert shop.state(database, upto=5) == then
    assert "<b>9</b> orders" in shop.page(database)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE orders SET pence = 1 WHERE number = 2",
        "DELETE FROM orders WHERE number = 2",
        "DELETE FROM orders WHERE number = 1",
    ],
)
def test_a_damaged_order_is_named(database: sqlite3.Connection, damage: str) -> None:
    for second in range(4):
        shop.place_order(database, f"2026-01-01T00:00:0{second}")
    database.execute(damage)
    assert "does not follow" in shop.state(database)["integrity"]


def test_two_histories_of_equal_length_differ(tmp_path: Path) -> None:
    chains = set()
    for name in ("a", "b"):
        connection = shop.connect(str(tmp_path / name))
        shop.place_order(connection, f"2026-01-01T00:00:00 {name}")
        chains.add(shop.state(connection)["chain"])
        connection.close()
    assert len(chains) == 2


def test_orders_come_all_the_time_and_go_on_after_a_stop(tmp_path: Path) -> None:
    path = str(tmp_path / "orders.db")
    for _ in range(2):
        stop = threading.Event()
        writer = threading.Thread(target=shop.take_orders, args=(path, stop))
        writer.start()
        time.sleep(0.3)
        stop.set()
        writer.join()
    connection = shop.connect(path)
    said = shop.state(connection)
    connection.close()
    assert said["integrity"] == "ok"
    assert said["orders"] >= 4
