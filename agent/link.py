"""One kept-alive HTTPS connection to a server of the site: TLS 1.3, certificates of the site's CA on both sides."""

from __future__ import annotations

import http.client
import json
import random
import ssl
import threading
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Union

from dr.errors import Unreachable

CONNECT_SECONDS = 10.0
CERTIFICATE_SECONDS = 2.0  # to wait for one that is on its way
MAX_TEXT = 2000  # what a server says ends in our status, which has a limit
Body = Union[bytes, Mapping[str, Any], None]


@dataclass(frozen=True)
class Answer:
    """An HTTP answer: its status, its JSON body, and for 503 how long to wait (seconds)."""

    status: int
    body: Dict[str, Any]
    retry_after_seconds: float

    @property
    def ok(self) -> bool:
        """Tell whether the request was done."""
        return 200 <= self.status < 300

    @property
    def code(self) -> str:
        """Return the error's code."""
        return str(self._error().get("code", f"http-{self.status}"))[:64]

    @property
    def message(self) -> str:
        """Return the error's message."""
        return str(self._error().get("message", f"the answer was HTTP {self.status}"))[:MAX_TEXT]

    @property
    def remedy(self) -> str:
        """Return the error's remedy."""
        return str(self._error().get("remedy", ""))[:MAX_TEXT]

    def _error(self) -> Mapping[str, Any]:
        error = self.body.get("error")
        return error if isinstance(error, dict) else {}


class Tls:
    """A certificate in its files, for all threads: who shows it trusts the site's CA alone and checks the address."""

    def __init__(self, ca: str, certificate: str, key: str) -> None:
        self._files = (ca, certificate, key)
        self._context: Optional[ssl.SSLContext] = None
        self._changed = threading.Condition()
        self.generation = 0  # of the certificate: connections of an older one are opened again

    def renewed(self) -> None:
        """Take note that the files changed."""
        with self._changed:
            self._context = None
            self.generation += 1
            self._changed.notify_all()

    def context(self) -> ssl.SSLContext:
        """Return the settings of a connection. Raises `Unreachable` while there is no usable certificate."""
        with self._changed:
            if self._context is None:
                try:
                    self._context = self._load(ssl.PROTOCOL_TLS_CLIENT)
                except OSError as error:
                    self._changed.wait(CERTIFICATE_SECONDS)
                    raise _unusable(error) from error
            return self._context

    def context_for(self, side: "ssl._SSLMethod") -> ssl.SSLContext:
        """Return settings for one connection between agents. Raises `Unreachable` as `context`, without waiting."""
        try:
            return self._load(side)
        except OSError as error:
            raise _unusable(error) from error

    def _load(self, side: "ssl._SSLMethod") -> ssl.SSLContext:
        ca, certificate, key = self._files
        context = ssl.SSLContext(side)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # An address is in the SAN: else the certificate of an agent that is called as the server would do.
        context.hostname_checks_common_name = False
        context.load_verify_locations(ca)
        context.load_cert_chain(certificate, key)
        return context


def _unusable(error: OSError) -> Unreachable:
    return Unreachable(f"there is no usable certificate: {error.strerror or error}", code="not-enrolled")


class Link:
    """A connection to `address` (`host:port`) that is opened when needed; for one thread."""

    def __init__(self, address: str, tls: Tls) -> None:
        self.address = address
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._tls = tls
        self._generation = -1
        self._connection: Optional[http.client.HTTPSConnection] = None

    def open(self) -> http.client.HTTPSConnection:
        """Connect now, so that a later request needs no handshake. Raises `Unreachable`."""
        connection = self._connection
        if connection is not None and connection.sock is not None and self._generation == self._tls.generation:
            return connection
        self.close()
        generation = self._tls.generation
        context = self._tls.context()
        connection = http.client.HTTPSConnection(self._host, self._port, context=context, timeout=CONNECT_SECONDS)
        try:
            connection.connect()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise self._unreachable(error) from error
        self._connection, self._generation = connection, generation
        return connection

    def request(self, method: str, path: str, body: Body = None, *, seconds: float) -> Answer:
        """Send a request and return its answer within `seconds` of silence. Raises `Unreachable`."""
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = "application/octet-stream" if isinstance(body, bytes) else "application/json"
        connection = self.open()
        try:
            connection.sock.settimeout(seconds)
            connection.request(method, path, body=data, headers={"Content-Type": kind} if data else {})
            response = connection.getresponse()
            return _answer(response.status, response.read(1 << 20), response.getheader("Retry-After"))
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from error

    def close(self) -> None:
        """Close the connection; the next request opens it again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _unreachable(self, error: Exception) -> Unreachable:
        self.close()
        return Unreachable(f"{self.address}: {error or type(error).__name__}")


def _answer(status: int, data: bytes, retry_after: Optional[str]) -> Answer:
    try:
        document = json.loads(data) if data else {}
    except (ValueError, RecursionError):
        document = {}
    try:
        seconds = min(60.0, max(0.2, float(retry_after or 2)))
    except ValueError:
        seconds = 2.0
    return Answer(status, document if isinstance(document, dict) else {}, seconds)


def counter(value: Any) -> int:
    """Return a counter of an answer. `ValueError` when it is none that fits into 63 bits."""
    if not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise ValueError(f"{str(value)[:40]} is no counter")
    return value


def pause_seconds(attempt: int, *, longest: float = 15.0) -> float:
    """Return how long to wait after failure number `attempt` (from 0): doubling, with jitter so that agents spread."""
    return min(longest, 0.25 * 2.0 ** min(attempt, 10)) * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
