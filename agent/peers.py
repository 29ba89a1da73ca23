"""TLS between the members of a replication group: 1.3 only, the site's CA, and the certificate of the member expected.

Rules kept here:
- Who is called and who calls is known by the URI in the certificate, not by an address: members move.
- A revoked certificate, or one that a revoked authority signed, is refused, by the list that came with the settings.
- Whatever comes from the network is bounded: the handshake in time, a line and the number of lines in size.
"""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass
from typing import Any, FrozenSet, List, Mapping, Optional

from agent.link import Tls
from agent.round_words import Garbage, Reader, Said, line_of

HANDSHAKE_SECONDS = 5.0
READ_BYTES = 4096
MAX_UNSENT_BYTES = 65536


class Lost(Exception):
    """The other side is gone, or is not who it should be."""


@dataclass(frozen=True)
class Members:
    """A replication group as the site tells it to one of its members; `addresses` are `host:port` by name."""

    site: str
    own: str
    name: str
    addresses: Mapping[str, str]
    coordinator: str
    port: int
    revoked: FrozenSet[str]

    @property
    def names(self) -> "tuple[str, ...]":
        """Return all members, in order."""
        return tuple(sorted(self.addresses))

    def refuse(self, shown: Optional[Mapping[str, Any]], expected: str) -> None:
        """Raise `Lost` unless the certificate, as `getpeercert` gives it, is that of the member `expected`."""
        certificate = shown or {}
        uris = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "URI"]
        wanted = f"lifeboat://{self.site}/agent/{expected}"
        if uris != [wanted]:
            raise Lost(f"its certificate is that of {', '.join(map(str, uris)) or 'nobody'}, not of {wanted}")
        issuer = dict(part[0] for part in certificate.get("issuer", ())).get("commonName", "")
        serial = f"{int(str(certificate.get('serialNumber', '0')), 16):x}"
        if serial in self.revoked or issuer in self.revoked:
            raise Lost("its certificate is revoked")


def listening_context(tls: Tls) -> ssl.SSLContext:
    """Return the settings of a member that is called. Raises `Unreachable` while there is no usable certificate."""
    context = tls.context_for(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.num_tickets = 0
    return context


def calling_context(tls: Tls) -> ssl.SSLContext:
    """Return the settings of a member that calls. Raises `Unreachable` while there is no usable certificate."""
    context = tls.context_for(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # `Members.refuse` looks at the identity
    context.verify_mode = ssl.CERT_REQUIRED
    return context


class Channel:
    """One connection after its handshake; never blocks."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        self._connection = connection
        self._reader = Reader()
        self._unsent = b""
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def fileno(self) -> int:
        """Return the descriptor, for a selector."""
        return self._connection.fileno()

    @property
    def busy(self) -> bool:
        """Tell whether something waits to be sent."""
        return bool(self._unsent)

    def say(self, said: Said) -> None:
        """Send a word now, or with the next `flush`. Raises `Lost`."""
        self._unsent += line_of(said)
        if len(self._unsent) > MAX_UNSENT_BYTES:
            raise Lost("it takes nothing more")
        self.flush()

    def flush(self) -> None:
        """Send what waits. Raises `Lost`."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self._connection.send(self._unsent) :]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            raise Lost(_why(error)) from error

    def hear(self) -> List[Said]:
        """Return the words that came. Raises `Lost`."""
        heard: List[Said] = []
        try:
            while True:
                data = self._connection.recv(READ_BYTES)
                if not data:
                    raise Lost("it closed the connection")
                heard += self._reader.feed(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return heard
        except (Lost, Garbage, OSError) as error:
            if heard:
                return heard  # its last words count; the next call tells the rest
            raise Lost(_why(error)) from error

    def close(self) -> None:
        """Close the connection, without waiting for the other side."""
        self._connection.close()


def call(members: Members, tls: Tls, member: str) -> Channel:
    """Connect to a member, within `HANDSHAKE_SECONDS` each for the way and the handshake.

    Raises `Lost`, and `Unreachable` while there is no usable certificate.
    """
    context = calling_context(tls)
    host, _, port = members.addresses[member].rpartition(":")
    try:
        plain = socket.create_connection((host.strip("[]"), int(port)), HANDSHAKE_SECONDS)
    except (OSError, ValueError) as error:
        raise Lost(_why(error)) from error
    return shaken(plain, context, members, member, server_side=False)


def shaken(
    plain: socket.socket, context: ssl.SSLContext, members: Members, member: str, *, server_side: bool
) -> Channel:
    """Do the handshake on a connection and see that the other side is `member`. Raises `Lost`, and closes it."""
    connection: Optional[ssl.SSLSocket] = None
    try:
        plain.settimeout(HANDSHAKE_SECONDS)
        connection = context.wrap_socket(plain, server_side=server_side, do_handshake_on_connect=False)
        connection.do_handshake()
        members.refuse(connection.getpeercert(), member)
        return Channel(connection)
    except (OSError, ValueError) as error:
        (connection or plain).close()
        raise Lost(_why(error)) from error
    except Lost:
        assert connection is not None
        connection.close()
        raise


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is refused: {error.verify_message}"
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
