"""What began and ended at a site: one event when a named state is entered, one when it is cleared; one SQLite file.

Rules:
- The states are those of `dr status`, so an RPO over its threshold is one event, and its end another, however often
  somebody asks in between, and across restarts: what is open is read from the file.
- What cannot be written is not forgotten: the difference to what the file says stays, is noted with the next look, and
  `unsaved` names the cause until then.
- The newest `KEPT` stay, and what is open, however old.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dr.errors import Unreachable
from dr.vault.manifest import format_time

KEPT = 10_000
BUSY_SECONDS = 5.0
ENTERED, CLEARED = "entered", "cleared"
SITE = ""  # the server of a state that is the site's own

_TABLE = """CREATE TABLE IF NOT EXISTS events (number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL,
    server TEXT NOT NULL, code TEXT NOT NULL, change TEXT NOT NULL, severity TEXT NOT NULL, message TEXT NOT NULL,
    remedy TEXT NOT NULL)"""
_OPEN = """SELECT server, code, severity, message, remedy FROM events WHERE number IN
    (SELECT max(number) FROM events GROUP BY server, code) AND change = 'entered'"""
_INSERT = "INSERT INTO events (at, server, code, change, severity, message, remedy) VALUES (?, ?, ?, ?, ?, ?, ?)"
# What is open stays readable however old it is, else its end would never be told.
_TRIM = """DELETE FROM events WHERE number <= (SELECT max(number) FROM events) - ? AND number NOT IN
    (SELECT max(number) FROM events GROUP BY server, code)"""

State = Mapping[str, Any]
"""A named state as the status shows it: code, message, remedy, severity."""


@dataclass(frozen=True, slots=True)
class Event:
    """A state of `server` ("" for the site itself) that was entered or cleared; numbers only grow."""

    number: int
    at: datetime
    server: str
    code: str
    change: str
    severity: str
    message: str
    remedy: str

    def document(self) -> dict[str, Any]:
        """Return what the API answers."""
        return {
            "number": self.number,
            "at": format_time(self.at),
            "server": self.server or None,
            "code": self.code,
            "change": self.change,
            "severity": self.severity,
            "message": self.message,
            "remedy": self.remedy,
        }


class EventLog:
    """The newest `kept` events of one site, in the file at `path`. Synchronous; `note` by one caller only."""

    def __init__(self, path: Path, kept: int = KEPT) -> None:
        self._path, self._kept = path, kept
        self.unsaved = ""  # why what happened is not in the file, empty while it is

    def note(self, states: Mapping[str, Iterable[State]], now: datetime) -> list[Event]:
        """Compare the states of now (by server) with those that are open, and keep and return what changed."""
        current = {(server, each["code"]): each for server, found in states.items() for each in found}
        try:
            with self._file() as file:
                known = {(row[0], row[1]): row for row in file.execute(_OPEN)}
                rows = [
                    (now.timestamp(), *key, ENTERED, state["severity"], state["message"], state["remedy"])
                    for key, state in current.items()
                    if key not in known
                ]
                rows += [(now.timestamp(), *key, CLEARED, *row[2:]) for key, row in known.items() if key not in current]
                noted = [_event((file.execute(_INSERT, row).lastrowid, *row)) for row in rows]
                if noted:
                    file.execute(_TRIM, (self._kept,))
        except Unreachable as error:
            self.unsaved = error.message
            return []
        self.unsaved = ""
        return noted

    def read(self, *, after: int | None = None, server: str | None = None, limit: int = 100) -> list[Event]:
        """Return the newest events, or the first ones after number `after`; oldest first. `Unreachable`."""
        wanted = "number > :after AND (:server IS NULL OR server = :server)"
        order = "DESC" if after is None else "ASC"
        query = f"SELECT * FROM events WHERE {wanted} ORDER BY number {order} LIMIT :limit"  # noqa: S608 - ours
        with self._file() as file:
            rows = file.execute(query, {"after": after or 0, "server": server, "limit": limit}).fetchall()
        return sorted((_event(row) for row in rows), key=lambda event: event.number)

    @contextmanager
    def _file(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction. `Unreachable` `events-unusable`."""
        try:
            with closing(sqlite3.connect(self._path, timeout=BUSY_SECONDS, isolation_level=None)) as file:
                file.execute("BEGIN IMMEDIATE")
                file.execute(_TABLE)
                yield file
                file.execute("COMMIT")
        except sqlite3.Error as error:
            raise Unreachable(
                f"{self._path}: {error}",
                code="events-unusable",
                remedy="make room for the site's folder; a damaged file may be moved away: what is open is noted anew",
            ) from error


def _event(row: tuple[Any, ...]) -> Event:
    number, at, *rest = row
    return Event(int(number), datetime.fromtimestamp(at, UTC), *rest)
