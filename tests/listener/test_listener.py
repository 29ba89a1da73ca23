"""What a hostile client may take of a listener: places before the handshake, connections after it, time for a head."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from aiohttp import web

from dr import https
from dr.certificates.tls import client_context, server_context
from dr.listener import Limits, Listener
from tests.certificates.holders import hold, site_certificates

LIMITS = Limits(
    handshakes_of_address=3, handshakes=100, connections_of_holder=4, handshake_seconds=1.0, head_seconds=0.6
)
ASK = b"GET /v1/quick HTTP/1.1\r\nHost: x\r\n\r\n"


class Place:
    """A listener in a thread, and the ways to come to it."""

    def __init__(self, folder: Path, listener: Listener, port: int) -> None:
        self.folder, self.listener, self.port = folder, listener, port

    def raw(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), 10)

    def secured(self, holder: str = "shop1") -> ssl.SSLSocket:
        stem = self.folder / holder
        context = client_context(stem.with_suffix(".crt"), stem.with_suffix(".key"), self.folder / "tls/ca.crt")
        return context.wrap_socket(self.raw(), server_hostname="127.0.0.1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("place")
    certificates = site_certificates(folder)
    for name in ("shop1", "db1"):
        hold(certificates, folder / name, f"lifeboat://hq/agent/{name}")
    loop, ready, stop, made = asyncio.new_event_loop(), threading.Event(), asyncio.Event(), list[Place]()

    async def quick(request: web.Request) -> web.Response:
        return web.json_response({"name": https.identity(request).name})

    async def slow(request: web.Request) -> web.Response:
        await asyncio.sleep(3 * LIMITS.head_seconds)
        return web.json_response({})

    async def body(request: web.Request) -> web.Response:
        return web.json_response({"bytes": len(await https.read_body(request, 1 << 20))})

    async def serve() -> None:
        app = https.application("hq")
        app.router.add_get("/v1/quick", quick)
        app.router.add_get("/v1/slow", slow)
        app.router.add_put("/v1/body", body)
        context = server_context(folder / "tls/server.crt", folder / "tls/server.key", folder / "tls/ca.crt")
        listener = Listener(app, context, "127.0.0.1", 0, LIMITS)
        made.append(Place(folder, listener, await listener.start()))
        ready.set()
        await stop.wait()
        await listener.stop()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert ready.wait(10)
    yield made[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join(15)
    loop.close()


@contextmanager
def all_closed(*connections: socket.socket) -> Iterator[None]:
    with ExitStack() as stack:
        for connection in connections:
            stack.enter_context(connection)
        yield


def ended(connection: socket.socket, within_seconds: float) -> bool:
    """Tell whether the other side ends the connection in time, without a word."""
    connection.settimeout(within_seconds)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def answer(connection: socket.socket) -> bytes:
    connection.settimeout(10)
    return connection.recv(4096)


def free(place: Place) -> None:
    """Wait until no connection of an earlier test is left."""
    deadline = time.monotonic() + 10
    while place.listener.held or place.listener.shaking:
        assert time.monotonic() < deadline, (place.listener.held, place.listener.shaking)
        time.sleep(0.01)


def test_who_shows_no_certificate_has_few_places_and_little_time(place: Place) -> None:
    free(place)
    waiting = [place.raw() for _ in range(LIMITS.handshakes_of_address)]
    time.sleep(0.1)
    with all_closed(*waiting), place.raw() as late:
        assert ended(late, 0.5), "there is no place left"
        assert all(ended(each, 3 * LIMITS.handshake_seconds) for each in waiting)
        with place.secured() as good:
            good.sendall(ASK)
            assert b" 200 " in answer(good)


def test_a_holder_has_so_many_connections_and_takes_none_of_anothers(place: Place) -> None:
    free(place)
    held = [place.secured() for _ in range(LIMITS.connections_of_holder)]
    with all_closed(*held):
        for each in held:
            each.sendall(ASK)
            assert b" 200 " in answer(each)
        with place.secured() as late:
            late.sendall(ASK)
            assert ended(late, 2)
        with place.secured("db1") as other:
            other.sendall(ASK)
            assert b"db1" in answer(other)
    free(place)
    with place.secured() as again:
        again.sendall(ASK)
        assert b" 200 " in answer(again)


@pytest.mark.parametrize("before", [b"", ASK])
def test_a_head_that_does_not_come_ends_the_connection(place: Place, before: bytes) -> None:
    free(place)
    with place.secured() as slow:
        if before:
            slow.sendall(before)
            assert b" 200 " in answer(slow)
        started = time.monotonic()
        slow.sendall(b"GET /v1/quick HTTP/1.1\r\n")
        with pytest.raises(OSError):
            while time.monotonic() - started < 5:
                slow.sendall(b"X-Slow: 1\r\n")
                time.sleep(0.1)
        assert time.monotonic() - started < 3 * LIMITS.head_seconds


def test_a_silent_caller_is_ended(place: Place) -> None:
    free(place)
    with place.secured() as silent:
        assert ended(silent, 3 * LIMITS.head_seconds)


def test_a_long_poll_and_a_slow_body_are_requests_under_way(place: Place) -> None:
    free(place)
    with place.secured() as patient, place.secured() as sending:
        patient.sendall(ASK.replace(b"quick", b"slow"))
        sending.sendall(b"PUT /v1/body HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n")
        for _ in range(20):
            time.sleep(LIMITS.head_seconds / 8)
            sending.sendall(b"x")
        assert b'{"bytes": 20}' in answer(sending)
        assert b" 200 " in answer(patient)
        patient.sendall(ASK)
        assert b" 200 " in answer(patient), "the connection is kept"
