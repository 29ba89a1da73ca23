"""The group's port on a member: answers the coordinator, and bounds what anybody else may take.

Rules kept here:
- The coordinator alone is heard, by its certificate; everybody else is cut off after the handshake.
- Before its handshake a caller has five seconds and one of a few places; the oldest gives way when they are taken.
- One round at a time: a new call of the coordinator ends the one before, which may be half open.
"""

from __future__ import annotations

import errno
import selectors
import socket
import threading
import time
from contextlib import suppress
from typing import Callable, List, Optional, Tuple

from agent.link import Tls
from agent.peers import Channel, Lost, Members, listening_context, shaken
from agent.reasons import Reason, reason
from agent.round_barrier import Mailbox, RoundBarrier
from agent.round_words import Said
from agent.rounds import FAILED, PREPARE, Member, Shared
from dr.errors import Unreachable

PLACES = 16
FIRST_WORD_SECONDS = 10.0
LOOK_SECONDS = 0.25
SOON_SECONDS = 0.02  # while something waits to be sent
LISTEN_BACKLOG = 16
_NO_IPV6 = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


class Answering:
    """Listens at `members.port` until `stop`; `called` is told of each round that this server is asked to take part in.

    Raises `OSError` when the port cannot be listened at.
    """

    def __init__(self, members: Members, tls: Tls, called: Callable[[RoundBarrier], None]) -> None:
        self.port = members.port
        self.members = members  # replaced when the site tells of others
        self._tls = tls
        self._called = called
        self._lock = threading.Lock()
        self._shaking: List[socket.socket] = []
        self._heard: Optional[RoundBarrier] = None
        self._stopped = False
        self._socket = _listen(members.port)
        threading.Thread(target=self._accept, name="group", daemon=True).start()

    def stop(self) -> None:
        """End soon; a round that runs goes on to its end."""
        self._stopped = True

    def _accept(self) -> None:
        with self._socket, selectors.DefaultSelector() as ready:
            ready.register(self._socket, selectors.EVENT_READ)
            while not self._stopped:
                if not ready.select(LOOK_SECONDS):
                    continue
                try:
                    plain, _ = self._socket.accept()
                except OSError:
                    continue  # it went again before it was taken
                handle = plain.dup()  # the TLS socket takes the first one away
                self._make_room(handle)
                threading.Thread(target=self._serve, args=(plain, handle), name="group-peer", daemon=True).start()

    def _make_room(self, handle: socket.socket) -> None:
        with self._lock:
            self._shaking.append(handle)
            if len(self._shaking) > PLACES:
                with suppress(OSError):
                    self._shaking.pop(0).shutdown(socket.SHUT_RDWR)  # its own thread closes it

    def _serve(self, plain: socket.socket, handle: socket.socket) -> None:
        members = self.members
        try:
            channel = shaken(plain, listening_context(self._tls), members, members.coordinator, server_side=True)
        except Lost:
            return
        except Unreachable:  # our own certificate, which the status names
            plain.close()
            return
        finally:
            with self._lock:
                self._shaking = [each for each in self._shaking if each is not handle]
                handle.close()
        mailbox = Mailbox()
        try:
            self._answer(members, channel, mailbox)
        finally:
            channel.close()
            mailbox.close()

    def _answer(self, members: Members, channel: Channel, mailbox: Mailbox) -> None:
        barrier: Optional[RoundBarrier] = None
        first = time.monotonic() + FIRST_WORD_SECONDS
        with selectors.DefaultSelector() as ready:
            ready.register(channel, selectors.EVENT_READ)
            ready.register(mailbox, selectors.EVENT_READ)
            shared: Optional[Shared] = None
            try:
                while True:
                    for word, why in mailbox.take():
                        assert shared is not None
                        channel.say(Said(word, shared, why))
                    channel.flush()
                    now = time.monotonic()
                    if barrier is not None:
                        barrier.tick(now)
                    if (barrier is None and now > first) or (barrier is not None and barrier.over and not channel.busy):
                        for word, why in mailbox.take():  # its last word may have come since
                            assert shared is not None
                            channel.say(Said(word, shared, why))
                        return
                    ready.select(SOON_SECONDS if channel.busy else LOOK_SECONDS)
                    for said in channel.hear():
                        if shared is None:
                            shared, barrier = self._begin(members, said, channel, mailbox)
                            if barrier is None:
                                return
                        elif said.shared.identity == shared.identity:
                            assert barrier is not None
                            barrier.heard(said.word, said.reason)
            except Lost as lost:
                if barrier is not None:
                    barrier.lost(f"the coordinator {members.coordinator}: {lost}")

    def _begin(
        self, members: Members, said: Said, channel: Channel, mailbox: Mailbox
    ) -> Tuple[Shared, Optional[RoundBarrier]]:
        why = _objection(members, said)
        if why is not None:
            channel.say(Said(FAILED, said.shared, why))
            return said.shared, None
        barrier = RoundBarrier(Member(said.shared, time.monotonic()), mailbox.put)
        with self._lock:
            before, self._heard = self._heard, barrier
        if before is not None:
            before.lost("the coordinator began another round")
        self._called(barrier)
        return said.shared, barrier


def _objection(members: Members, said: Said) -> Optional[Reason]:
    if said.word != PREPARE:
        return reason("group-void", f"it began with {said.word}")
    if said.shared.group != members.name or said.shared.members != members.names:
        return reason("group-void", f"here the group is {members.name} with {', '.join(members.names)}")
    return None


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                ("::", port), family=socket.AF_INET6, backlog=LISTEN_BACKLOG, dualstack_ipv6=True
            )
        except OSError as error:
            if error.errno not in _NO_IPV6:
                raise
    return socket.create_server(("", port), backlog=LISTEN_BACKLOG)
