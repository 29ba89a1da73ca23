"""One address that serves one application over TLS, and what a hostile client may take of it.

    TCP connection -> Door: how many wait for their handshake -> TLS 1.3, certificates on both sides
                   -> Room: how many its holder has, how long it takes to ask -> the application

Rules:
- Before the handshake a caller is only an address: it has a few places, and ten seconds to show a certificate.
- After it a caller is a holder: it has so many connections over all addresses, and ten seconds for the head of each
  request. Bodies have a deadline of their own (`dr.https.read_body`); a long poll is a request under way.
- A connection over a limit is cut without an answer: an answer would be what costs.
- `end` cuts the connections of certificates that are not welcome any more.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from dr.certificates.tls import Identity, Peer, peer
from dr.errors import LifeboatError

log = logging.getLogger("dr.listener")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one caller may take; an agent needs five connections to a server."""

    handshakes_of_address: int = 64
    handshakes: int = 1024
    connections_of_holder: int = 32
    handshake_seconds: float = 10.0
    head_seconds: float = 10.0


class Listener:
    """Listens at one address; belongs to one event loop. The application finds its rooms by `ROOMS`."""

    def __init__(
        self, app: web.Application, context: ssl.SSLContext, host: str, port: int, limits: Limits = Limits()
    ) -> None:
        self._runner = web.AppRunner(
            app, access_log=None, keepalive_timeout=75, auto_decompress=False, shutdown_timeout=5
        )
        self.context, self.limits = context, limits
        self._host, self._port = host, port
        self._server: asyncio.Server | None = None
        self.shaking: Counter[str] = Counter()  # handshakes under way, by address
        self.held: Counter[Identity] = Counter()  # connections, by holder
        self.rooms: dict[asyncio.BaseProtocol, Room] = {}  # by aiohttp's protocol
        self.tasks: set[asyncio.Task[None]] = set()
        app[ROOMS] = self.rooms

    async def start(self) -> int:
        """Listen, and return the port (the free one found, when 0 was asked for). `OSError` when it is in use."""
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Door(self), self._host, self._port, backlog=128)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening; requests under way get a few seconds."""
        if self._server is not None:
            self._server.close()
        for task in list(self.tasks):
            task.cancel()
        await self._runner.cleanup()

    def end(self, unwelcome: Callable[[Peer], bool]) -> int:
        """Cut the connections of everybody who is unwelcome; return how many there were."""
        chosen = [room for room in self.rooms.values() if room.peer is not None and unwelcome(room.peer)]
        for room in chosen:
            room.cut()
        return len(chosen)

    def application_protocol(self) -> asyncio.Protocol:
        """Return what speaks HTTP on one connection."""
        assert self._runner.server is not None
        return self._runner.server()


class Door(asyncio.Protocol):
    """A TCP connection until its handshake is done."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        listener, limits = self._listener, self._listener.limits
        address = str((transport.get_extra_info("peername") or ("",))[0])
        # The first bytes must be read by TLS, which comes a moment later.
        transport.pause_reading()
        if listener.shaking[address] >= limits.handshakes_of_address or listener.shaking.total() >= limits.handshakes:
            transport.abort()
            return
        listener.shaking[address] += 1
        task = asyncio.get_running_loop().create_task(self._shake(transport, address))
        listener.tasks.add(task)
        task.add_done_callback(listener.tasks.discard)

    async def _shake(self, transport: asyncio.Transport, address: str) -> None:
        listener, room = self._listener, Room(self._listener)
        try:
            secured = await asyncio.get_running_loop().start_tls(
                transport,
                room,
                listener.context,
                server_side=True,
                ssl_handshake_timeout=listener.limits.handshake_seconds,
                ssl_shutdown_timeout=5.0,
            )
        except OSError as refused:
            log.debug("no handshake with %s: %s", address, refused)
            transport.abort()
            return
        finally:
            listener.shaking[address] -= 1
            if not listener.shaking[address]:
                del listener.shaking[address]
        if secured is not None:
            room.connection_made(secured)


class Room(asyncio.Protocol):
    """A connection after its handshake: hands everything to the application's protocol and watches the clock."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._inner: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._early: list[bytes] = []  # a client may ask in the packet that ends the handshake
        self._deadline: asyncio.TimerHandle | None = None
        self._busy = False
        self._lost = False
        self.peer: Peer | None = None
        self.refusal: LifeboatError | None = None  # why `peer` is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if self._lost:
            return
        listener, self._transport = self._listener, transport
        try:
            self.peer = peer(transport.get_extra_info("peercert"))
        except LifeboatError as error:
            self.refusal = error
        else:
            if listener.held[self.peer.identity] >= listener.limits.connections_of_holder:
                log.warning("too many connections of %s", self.peer.identity)
                self.peer = None
                transport.abort()
                return
            listener.held[self.peer.identity] += 1
        self._inner = inner = listener.application_protocol()
        listener.rooms[inner] = self
        inner.connection_made(transport)
        self._expect()
        early, self._early = self._early, []
        for data in early:
            inner.data_received(data)

    def begun(self) -> None:
        """Note that the head of a request is here."""
        self._busy = True
        self._cancel_deadline()

    def ended(self) -> None:
        """Note that the request was answered; the next one may take its time to come, and not to be told."""
        self._busy = False

    def cut(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._inner is None:
            self._early.append(data)
            return
        if not self._busy and self._deadline is None:
            self._expect()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return None if self._inner is None else self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._cancel_deadline()
        if self._inner is None:
            return
        self._listener.rooms.pop(self._inner, None)
        if self.peer is not None:
            held, who = self._listener.held, self.peer.identity
            held[who] -= 1
            if not held[who]:
                del held[who]
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        if self._inner is not None:
            self._inner.resume_writing()

    def _expect(self) -> None:
        loop, seconds = asyncio.get_running_loop(), self._listener.limits.head_seconds
        self._deadline = loop.call_later(seconds, self.cut)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


ROOMS: web.AppKey[dict[Any, Room]] = web.AppKey("rooms", dict)
