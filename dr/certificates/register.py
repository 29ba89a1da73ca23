"""What a site's issuing authority signed, what of it is revoked, and which tokens were used: one SQLite file.

    issued    every certificate and token
    lineages  which of them came from which by exchange and renewal: the first, and all that descend from it
    revoked   serial numbers that no listener of the site lets in; an issuing authority's revokes all that it signed
    used      the token's serial number and a hash of the key it was exchanged for: a token is good for one key

Rules:
- Nothing is forgotten: a clock that was ahead for an hour would let in for good whoever was revoked. A certificate is
  some 250 bytes, about 26 kB a year for each holder.
- No secret is here: a token is a key with a certificate, and the register knows its serial number.
- `up`, `dr revoke`, `dr agent token` and `dr serve` work on the file at the same time; each step is one transaction,
  durable when it returns. A running server sees by the file's time that something changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

from dr.errors import Conflict, Corrupt, LifeboatError, Refused, Unreachable

SHOWN_SECONDS = 30 * 86400.0  # what ended before is of no interest to a status
BUSY_SECONDS = 10.0
HOUR = 3600.0
MOST_AN_HOUR = 24  # of one holder: a lost answer is asked for again, a loop is not fed for ever

_TABLES = """
CREATE TABLE IF NOT EXISTS issued (serial TEXT PRIMARY KEY, issuer TEXT NOT NULL, role TEXT NOT NULL,
    name TEXT NOT NULL, issued_at REAL NOT NULL, until REAL NOT NULL);
CREATE INDEX IF NOT EXISTS issued_to ON issued (role, name, issued_at);
CREATE TABLE IF NOT EXISTS lineages (serial TEXT PRIMARY KEY, first TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS lineages_first ON lineages (first);
CREATE TABLE IF NOT EXISTS revoked (serial TEXT PRIMARY KEY, role TEXT NOT NULL, name TEXT NOT NULL,
    until REAL NOT NULL, revoked_at REAL NOT NULL, reason TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS used (token TEXT PRIMARY KEY, key_sha256 TEXT NOT NULL, until REAL NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Issued:
    """One certificate; times are seconds since 1970."""

    serial: str
    issuer: str
    role: str
    name: str
    issued_at: float
    until: float


@dataclass(frozen=True, slots=True)
class Revoked:
    """One revoked certificate, or an issuing authority (`role` "issuing")."""

    serial: str
    role: str
    name: str
    until: float
    revoked_at: float
    reason: str


class Register:
    """The file at `path`: made, readable by us only, by the first change.

    Its calls raise `Corrupt` `register-unusable` when it is no register, and `Unreachable` `register-busy` when it
    cannot be read or written for now.
    """

    def __init__(self, path: Path, busy_seconds: float = BUSY_SECONDS) -> None:
        self._path, self._busy_seconds = path, busy_seconds

    def make(self) -> None:
        """Make the file when there is none."""
        with self._open():
            pass

    def note(self, certificate: Issued, *, renews: str | None = None) -> None:
        """Note a certificate before it is handed out.

        Raises `Refused` `certificate-revoked` when `renews`, the serial number it takes the place of, was revoked,
        and `Conflict` `too-many-certificates`.
        """
        with self._open() as database:
            if renews is not None and _is_revoked(database, renews):
                raise revoked_error()
            since = certificate.issued_at - HOUR
            query = "SELECT count(*) FROM issued WHERE role = ? AND name = ? AND issued_at > ?"
            (count,) = database.execute(query, (certificate.role, certificate.name, since)).fetchone()
            if count >= MOST_AN_HOUR:
                raise Conflict(
                    f"{certificate.role} {certificate.name} was given {count} certificates within an hour",
                    code="too-many-certificates",
                    remedy="find what asks for them; wait an hour",
                )
            database.execute("INSERT INTO issued VALUES (?, ?, ?, ?, ?, ?)", astuple(certificate))
            if renews is not None:
                before = database.execute("SELECT first FROM lineages WHERE serial = ?", (renews,)).fetchone()
                (first,) = before or (renews,)
                database.execute("INSERT INTO lineages VALUES (?, ?)", (certificate.serial, first))

    def adopt(self, certificate: Issued) -> None:
        """Note a certificate that was handed out before this register was made; one that is known stays as it is."""
        with self._open() as database:
            database.execute("INSERT OR IGNORE INTO issued VALUES (?, ?, ?, ?, ?, ?)", astuple(certificate))

    def use(self, token: str, key_sha256: str, until: float) -> None:
        """Exchange a token for one key; again for the same key, for its answer may have been lost.

        Raises `Refused` `token-unknown` or `token-used`.
        """
        with self._open() as database:
            known = database.execute("SELECT 1 FROM issued WHERE serial = ? AND role = 'enrolment'", (token,))
            if known.fetchone() is None or _is_revoked(database, token):
                raise Refused("this token was not made by this site", code="token-unknown", remedy=ANOTHER)
            database.execute("INSERT OR IGNORE INTO used VALUES (?, ?, ?)", (token, key_sha256, until))
            (used_for,) = database.execute("SELECT key_sha256 FROM used WHERE token = ?", (token,)).fetchone()
            if used_for != key_sha256:
                raise Refused(
                    "this token was used by another key",
                    code="token-used",
                    remedy="if that was not this server, somebody has read the token: `dr revoke` the server, then "
                    + ANOTHER,
                )

    def revoke(self, certificate: Revoked) -> None:
        """Revoke one certificate; what is revoked already stays as it is."""
        with self._open() as database:
            _revoke(database, [certificate])

    def revoke_holder(self, name: str, roles: Collection[str], at: float, reason: str) -> list[Revoked]:
        """Revoke all that a holder has and that is good still; return it. What is renewed meanwhile is among it."""
        named = {f"role{number}": role for number, role in enumerate(roles)}
        where = f"name = :name AND until > :at AND role IN ({', '.join(f':{key}' for key in named)})"
        return self._revoke_issued(where, {"name": name, **named}, at, reason)

    def revoke_lineage(self, serial: str, at: float, reason: str) -> list[Revoked]:
        """Revoke a certificate and all that is good of what came from the same first one: they may share its key.

        Returns what was known of them, which is nothing when nobody was given `serial` and nothing renews it.
        """
        first = "coalesce((SELECT first FROM lineages WHERE serial = :serial), :serial)"
        among = f"serial = {first} OR serial IN (SELECT serial FROM lineages WHERE first = {first})"  # noqa: S608 - ours
        return self._revoke_issued(f"serial = :serial OR until > :at AND ({among})", {"serial": serial}, at, reason)

    def _revoke_issued(self, where: str, values: Mapping[str, str], at: float, reason: str) -> list[Revoked]:
        """Choose and revoke in one transaction: what is noted before is chosen, what comes later is refused."""
        if not self._path.exists():
            return []
        query = f"SELECT serial, role, name, until FROM issued WHERE {where}"  # noqa: S608 - conditions of ours
        with self._open() as database:
            rows = database.execute(query, {**values, "at": at}).fetchall()
            chosen = [Revoked(serial, role, name, until, at, reason) for serial, role, name, until in rows]
            _revoke(database, chosen)
        return chosen

    def issued(self, now: float) -> list[Issued]:
        """Return what was issued and may matter still: newest first."""
        if not self._path.exists():
            return []
        with self._open() as database:
            rows = database.execute(
                "SELECT * FROM issued WHERE until > ? ORDER BY issued_at DESC", (now - SHOWN_SECONDS,)
            )
            return [Issued(*row) for row in rows]

    def revoked(self) -> list[Revoked]:
        """Return what is revoked, newest first."""
        if not self._path.exists():
            return []
        with self._open() as database:
            return [Revoked(*row) for row in database.execute("SELECT * FROM revoked ORDER BY revoked_at DESC")]

    def used_tokens(self) -> set[str]:
        """Return the serial numbers of the tokens that were exchanged."""
        if not self._path.exists():
            return set()
        with self._open() as database:
            return {token for (token,) in database.execute("SELECT token FROM used")}

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Open the file for one transaction."""
        try:
            if not self._path.exists():
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._path.touch(mode=0o600)
            with closing(sqlite3.connect(self._path, timeout=self._busy_seconds, isolation_level=None)) as database:
                database.execute("PRAGMA synchronous = FULL")
                database.execute("BEGIN IMMEDIATE")
                for statement in _TABLES.split(";\n"):
                    database.execute(statement)
                try:
                    yield database
                except BaseException:
                    if database.in_transaction:  # a full disk has ended it already
                        database.execute("ROLLBACK")
                    raise
                database.execute("COMMIT")
        except (sqlite3.Error, OSError) as error:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> LifeboatError:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return Corrupt(
                f"{self._path}: {error}",
                code="register-unusable",
                remedy="move the file away: agents keep their certificates, and what was revoked has to be revoked "
                "again",
            )
        return Unreachable(
            f"{self._path}: {error}",
            code="register-busy",
            remedy="run it again; make room when the file system is full. Leave the file: it knows what is revoked",
        )


ANOTHER = "make a new one: `pulumi up --refresh` of the site stack, or `dr agent token SERVER`"


def revoked_error() -> Refused:
    """Return the error for a certificate that was revoked."""
    return Refused(
        "this certificate was revoked",
        code="certificate-revoked",
        remedy="if the server is to be protected, `pulumi up --refresh` of the site stack gives it a new key and "
        "certificate",
    )


def _is_revoked(database: sqlite3.Connection, serial: str) -> bool:
    query = """SELECT 1 FROM revoked WHERE serial = :serial
        OR serial = (SELECT issuer FROM issued WHERE serial = :serial)"""
    return database.execute(query, {"serial": serial}).fetchone() is not None


def _revoke(database: sqlite3.Connection, certificates: list[Revoked]) -> None:
    rows = [(c.serial, c.role, c.name, c.until, c.revoked_at, c.reason) for c in certificates]
    database.executemany("INSERT OR IGNORE INTO revoked VALUES (?, ?, ?, ?, ?, ?)", rows)
