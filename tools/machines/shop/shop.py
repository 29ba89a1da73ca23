"""A small shop: a web page over an SQLite database that takes orders all the time.

It is the workload on the protected server. Each order carries a hash over all orders before it (the *chain*), so
whoever remembers `orders` and `chain` of one moment can later prove that exactly those orders are still there:

    /             HTML: number of orders, the last one
    /state        {"orders", "last", "chain", "integrity"}; `integrity` is "ok" when SQLite's own check passes and
                  the whole chain was computed again from the rows
    /state?upto=N the same for the moment when there were N orders

Rules: an order is committed with a full sync before it counts; nothing is kept outside the database; after a crash
SQLite recovers by itself when the shop opens it.
"""

from __future__ import annotations

import hashlib
import html
import json
import os
import sqlite3
import threading
import time
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

DATABASE = os.environ.get("SHOP_DATABASE", "/var/lib/shop/orders.db")
ADDRESS = os.environ.get("SHOP_ADDRESS", "0.0.0.0")  # noqa: S104 - a shop is there for its network
PORT = int(os.environ.get("SHOP_PORT", "8080"))
ORDERS_PER_SECOND = float(os.environ.get("SHOP_ORDERS_PER_SECOND", "20"))
GOODS = ("oilskin", "compass", "lantern", "anchor", "rope", "flare", "biscuit tin", "sextant")
GENESIS = "0" * 64
Row = tuple[int, str, str, int, str]


def link(previous: str, number: int, placed_at: str, goods: str, pence: int) -> str:
    """Return the chain value of an order that follows the chain value `previous`."""
    return hashlib.sha256(f"{previous}|{number}|{placed_at}|{goods}|{pence}".encode()).hexdigest()


def connect(path: str) -> sqlite3.Connection:
    """Open the database (made on first use) with durable commits."""
    database = sqlite3.connect(path, timeout=30, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute(
        "CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY, placed_at TEXT NOT NULL,"
        " goods TEXT NOT NULL, pence INTEGER NOT NULL, chain TEXT NOT NULL)"
    )
    return database


def last_order(database: sqlite3.Connection) -> Row | None:
    """Return the newest order, or None before the first."""
    row: Row | None = database.execute("SELECT * FROM orders ORDER BY number DESC LIMIT 1").fetchone()
    return row


def place_order(database: sqlite3.Connection, placed_at: str) -> int:
    """Commit one more order and return its number."""
    before = last_order(database)
    number = before[0] + 1 if before else 1
    goods, pence = GOODS[number % len(GOODS)], 100 + number * 37 % 9900
    chain = link(before[4] if before else GENESIS, number, placed_at, goods, pence)
    database.execute("INSERT INTO orders VALUES (?, ?, ?, ?, ?)", (number, placed_at, goods, pence, chain))
    return number


def state(database: sqlite3.Connection, upto: int | None = None) -> dict[str, Any]:
    """Compute the whole chain again and return what `/state` says."""
    chain, orders, last, integrity = GENESIS, 0, None, "ok"
    database.execute("BEGIN")  # one view of the database for the check and the rows
    try:
        (found,) = database.execute("PRAGMA quick_check").fetchone()
        rows = database.execute(
            "SELECT * FROM orders WHERE number <= ? ORDER BY number", (upto if upto is not None else 1 << 62,)
        )
        for number, placed_at, goods, pence, stored in rows:
            chain = link(chain, number, placed_at, goods, pence)
            if number != orders + 1 or chain != stored:
                integrity = f"order {number} does not follow from the orders before it"
                break
            orders, last = number, placed_at
    finally:
        database.execute("COMMIT")
    return {"orders": orders, "last": last, "chain": chain, "integrity": integrity if found == "ok" else found}


def page(database: sqlite3.Connection) -> str:
    """Return the shop's page."""
    row = last_order(database)
    count, newest = (row[0], f"{row[2]}, {row[3] / 100:.2f}, at {row[1]}") if row else (0, "none yet")
    return (
        "<!doctype html><html lang=en><title>The Lighthouse Shop</title><h1>The Lighthouse Shop</h1>"
        f"<p><b>{count}</b> orders so far.</p><p>The last one: {html.escape(newest)}</p></html>\n"
    )


def take_orders(path: str, stop: threading.Event) -> None:
    """Place orders at the wanted rate until `stop` is set; a slow disk means fewer orders, never lost ones."""
    database = connect(path)
    due = time.monotonic()
    while not stop.is_set():
        place_order(database, datetime.now(timezone.utc).isoformat(timespec="milliseconds"))
        due = max(due + 1 / ORDERS_PER_SECOND, time.monotonic())
        stop.wait(max(0.0, due - time.monotonic()))


class Till(BaseHTTPRequestHandler):
    """Answers `/` and `/state`."""

    def do_GET(self) -> None:
        """Answer one request from a fresh connection to the database."""
        url = urlsplit(self.path)
        database = connect(DATABASE)
        try:
            if url.path == "/":
                self._answer(200, "text/html; charset=utf-8", page(database))
            elif url.path == "/state":
                upto = parse_qs(url.query).get("upto")
                body = state(database, int(upto[0]) if upto else None)
                self._answer(200, "application/json", json.dumps(body) + "\n")
            else:
                self._answer(404, "text/plain; charset=utf-8", "the shop has / and /state\n")
        except ValueError:
            self._answer(400, "text/plain; charset=utf-8", "upto is a number of orders\n")
        finally:
            database.close()

    def _answer(self, status: int, kind: str, body: str) -> None:
        data = body.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep quiet: a log line per request would be more writing than the orders."""


def main() -> None:
    """Open the shop; if the writer dies, the process ends and systemd starts it again."""
    connect(DATABASE).close()
    stop = threading.Event()

    def write() -> None:
        try:
            take_orders(DATABASE, stop)
        finally:
            server.shutdown()

    with ThreadingHTTPServer((ADDRESS, PORT), Till) as server:
        writer = threading.Thread(target=write, name="orders")
        writer.start()
        try:
            server.serve_forever(poll_interval=0.5)
        finally:
            stop.set()
            writer.join()


if __name__ == "__main__":
    main()
