"""One question to a recovered server: does this port answer as it should?

A TCP connection that opens proves little where a port is forwarded: the forwarder accepts before the server does.
So `tcp` passes only when the other side speaks, or, silent, answers the end of our side with the end of its own.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from dataclasses import dataclass

ANSWER_SECONDS = 5.0
SILENCE_SECONDS = 2.0
MAX_BODY_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Probe:
    kind: str  # "tcp" | "http"
    path: str
    status: int
    contains: str | None


@dataclass(frozen=True, slots=True)
class Answer:
    passed: bool
    text: str  # what was seen, for people


def ask(probe: Probe, host: str, port: int) -> Answer:
    """Ask once, within about `ANSWER_SECONDS`; a refusal or silence is an answer too."""
    return heard(lambda: _ask_http(probe, host, port) if probe.kind == "http" else _ask_tcp(host, port))


def heard(question: Callable[[], Answer]) -> Answer:
    """Ask, and take what sockets raise for the answer that it is."""
    try:
        return question()
    except TimeoutError:
        return Answer(False, f"no answer within {ANSWER_SECONDS:.0f} s")
    except ConnectionError as error:
        return Answer(False, error.strerror or "the connection was closed")
    except OSError as error:
        return Answer(False, error.strerror or str(error))
    except http.client.HTTPException as error:
        return Answer(False, f"no HTTP ({type(error).__name__})")


def _ask_http(probe: Probe, host: str, port: int) -> Answer:
    connection = http.client.HTTPConnection(host, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", probe.path, headers={"Connection": "close"})
        response = connection.getresponse()
        body = response.read(MAX_BODY_BYTES)
    finally:
        connection.close()
    if response.status != probe.status:
        return Answer(False, f"HTTP {response.status}")
    if probe.contains is not None and probe.contains.encode() not in body:
        return Answer(False, f"HTTP {response.status} without the expected text")
    return Answer(True, f"HTTP {response.status}")


def _ask_tcp(host: str, port: int) -> Answer:
    with socket.create_connection((host, port), timeout=ANSWER_SECONDS) as connection:
        connection.settimeout(SILENCE_SECONDS)
        try:
            spoken = connection.recv(64)
        except TimeoutError:
            return _ask_silent(connection)
    return Answer(True, "it speaks") if spoken else Answer(False, "closed at once")


def _ask_silent(connection: socket.socket) -> Answer:
    connection.settimeout(ANSWER_SECONDS)
    connection.shutdown(socket.SHUT_WR)
    connection.recv(64)
    return Answer(True, "it listens")
