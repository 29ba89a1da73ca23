"""One question to a database without an account: would it serve somebody who has one?

The rule is that of `pg_isready` and `mariadb-admin ping`: a server that asks for a password, or refuses a stranger, is
up; one that is starting, shutting down or full is not yet. A driver needs a role and its secret to get any further, and
a declaration names none; what a query has to prove, an `ssh` check asks on the server itself.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

from dr.plain import plain
from dr.provider.probe import ANSWER_SECONDS, Answer

MAX_BYTES = 64 << 10
# PostgreSQL's protocol 3.0: length, version, pairs of texts, an empty one.
_STARTUP = b"user\0lifeboat\0database\0postgres\0application_name\0lifeboat\0\0"
STARTUP = struct.pack("!ii", 8 + len(_STARTUP), 3 << 16) + _STARTUP
TERMINATE = b"X\0\0\0\4"
STRANGER = ("28", "3D")  # classes of SQLSTATE: not authorised, no such database
_NOT_ALLOWED = 1130  # MariaDB: this host may not connect
_HANDSHAKE = 10


def ask_sql(engine: str, host: str, port: int) -> Answer:
    """Ask once, within about `ANSWER_SECONDS`. Raises what sockets raise."""
    deadline = time.monotonic() + ANSWER_SECONDS
    with socket.create_connection((host, port), timeout=ANSWER_SECONDS) as connection:
        if engine == "postgresql":
            connection.sendall(STARTUP)
            answer = _listen(connection, deadline, postgresql)
            connection.sendall(TERMINATE)
            return answer
        return _listen(connection, deadline, mariadb)


def _listen(connection: socket.socket, deadline: float, read: Callable[[bytes], Answer | None]) -> Answer:
    heard = b""
    while (answer := read(heard)) is None:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        part = connection.recv(4096)
        if not part or len(heard) > MAX_BYTES:
            return Answer(False, "closed at once" if not heard else "it is no such database")
        heard += part
    return answer


def postgresql(heard: bytes) -> Answer | None:
    """Read the first message of a PostgreSQL server; None when there is more to come."""
    if not heard:
        return None
    if heard[:1] not in (b"R", b"E"):
        return Answer(False, "it is no PostgreSQL")
    if heard[:1] == b"R":
        return Answer(True, "it asks who is there")
    if len(heard) < 5:
        return None
    length = int.from_bytes(heard[1:5], "big")
    if len(heard) < 1 + length:
        return None if length <= MAX_BYTES else Answer(False, "it is no PostgreSQL")
    fields = {field[:1]: field[1:].decode("utf-8", "replace") for field in heard[5 : 1 + length].split(b"\0")}
    state, said = fields.get(b"C", ""), plain(fields.get(b"M", "no reason given"))
    return Answer(True, "it refuses strangers") if state[:2] in STRANGER else Answer(False, f"{said} ({state})")


def mariadb(heard: bytes) -> Answer | None:
    """Read the first packet of a MariaDB or MySQL server, which speaks first; None when there is more to come."""
    if len(heard) < 5:
        return None
    length, first = int.from_bytes(heard[:3], "little"), heard[4]
    if first not in (_HANDSHAKE, 0xFF) or not 2 <= length <= MAX_BYTES:
        return Answer(False, "it is no MariaDB")
    if len(heard) < 4 + length:
        return None
    packet = heard[5 : 4 + length]
    if first == _HANDSHAKE:
        return Answer(True, f"it is {plain(packet.partition(bytes(1))[0].decode('utf-8', 'replace'))}")
    number = int.from_bytes(packet[:2], "little")
    said = plain(packet[2:].decode("utf-8", "replace"))
    return Answer(True, "it refuses strangers") if number == _NOT_ALLOWED else Answer(False, f"{said} ({number})")
