"""One round as the coordinator leads it: calls all members at once, then talks until the round is over.

Nobody is asked to prepare before all members answered and showed the right certificate: a member that is down costs
the others nothing.
"""

from __future__ import annotations

import secrets
import selectors
import threading
import time
from datetime import datetime, timezone
from typing import Callable, Dict, List, Optional

from agent.answering import LOOK_SECONDS, SOON_SECONDS
from agent.link import Tls
from agent.peers import HANDSHAKE_SECONDS, Channel, Lost, Members, call
from agent.reasons import Reason, reason
from agent.round_barrier import Mailbox, RoundBarrier
from agent.round_words import Said
from agent.rounds import Coordinator, Member, Orders, Phase, Shared
from dr.errors import Unreachable

LAST_WORD_SECONDS = 1.0  # for somebody who takes nothing any more
CONNECT_SECONDS = 2 * HANDSHAKE_SECONDS + 1.0


class Calling:
    """A round that runs in a thread of its own; `changed` is called when there is something to do."""

    def __init__(self, members: Members, tls: Tls, changed: Callable[[], None]) -> None:
        self._members = members
        self._tls = tls
        self._changed = changed
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self.shared = Shared(members.name, secrets.token_hex(8), members.names, now)
        self.barrier: Optional[RoundBarrier] = None  # of our own server, once all have answered
        self.reason: Optional[Reason] = None  # why there is no shared point
        self.over = False
        threading.Thread(target=self._run, name="group-round", daemon=True).start()

    def _run(self) -> None:
        channels: Dict[str, Channel] = {}
        failures = self._call_all(channels)
        mailbox = Mailbox()
        try:
            if failures:
                self.reason = reason("group-member-unreachable", "; ".join(failures))
            else:
                self._lead(channels, mailbox)
        finally:
            for channel in channels.values():
                channel.close()
            mailbox.close()
            self.over = True
            self._changed()

    def _call_all(self, channels: Dict[str, Channel]) -> List[str]:
        """Fill `channels`; return what went wrong, by member."""
        failures: Dict[str, str] = {}
        lock, given_up = threading.Lock(), threading.Event()

        def one(member: str) -> None:
            try:
                channel = call(self._members, self._tls, member)
            except (Lost, Unreachable) as error:
                with lock:
                    failures[member] = f"{member} ({self._members.addresses[member]}): {error}"
                return
            with lock:
                if not given_up.is_set():
                    channels[member] = channel
                    return
            channel.close()

        others = [member for member in self._members.names if member != self._members.own]
        threads = [threading.Thread(target=one, args=(member,), name="group-call", daemon=True) for member in others]
        deadline = time.monotonic() + CONNECT_SECONDS
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        with lock:
            given_up.set()
            for member in others:
                if member not in channels:
                    where = self._members.addresses[member]
                    failures.setdefault(member, f"{member} ({where}): no answer within {CONNECT_SECONDS:.0f} s")
            return [failures[member] for member in sorted(failures)]

    def _lead(self, channels: Dict[str, Channel], mailbox: Mailbox) -> None:
        now, own = time.monotonic(), self._members.own
        core = Coordinator(self.shared, now)
        barrier = RoundBarrier(Member(self.shared, now), mailbox.put)
        live = dict(channels)
        with selectors.DefaultSelector() as ready:
            ready.register(mailbox, selectors.EVENT_READ)
            for member, channel in live.items():
                ready.register(channel, selectors.EVENT_READ, member)
            self.barrier = barrier
            self._changed()
            orders, last = core.begin(), 0.0
            while True:
                orders = self._carry_out(orders, core, barrier, live, ready)
                busy = any(channel.busy for channel in live.values())
                if core.over:
                    last = last or time.monotonic() + LAST_WORD_SECONDS
                    if not busy or time.monotonic() > last:
                        break
                pause = SOON_SECONDS if busy else min(LOOK_SECONDS, core.deadline - time.monotonic())
                ready.select(max(0.0, pause))
                orders += core.tick(time.monotonic())
                for word, why in mailbox.take():
                    orders += core.heard(own, word, why, time.monotonic())
                for member in list(live):
                    orders += self._listen(member, core, live, ready)
        self.reason = core.reason
        if core.phase is not Phase.SHARED and self.reason is None:
            self.reason = reason("group-void", "the round ended without a point")

    def _carry_out(
        self,
        orders: Orders,
        core: Coordinator,
        barrier: RoundBarrier,
        live: Dict[str, Channel],
        ready: selectors.BaseSelector,
    ) -> Orders:
        """Say `orders`; return those that follow because somebody could not be told."""
        more: Orders = []
        for member, word in orders:
            if member == self._members.own:
                barrier.heard(word, core.reason)
            elif member in live:
                try:
                    live[member].say(Said(word, self.shared, core.reason))
                except Lost as lost:
                    more += self._drop(member, str(lost), core, live, ready)
        return more

    def _listen(
        self, member: str, core: Coordinator, live: Dict[str, Channel], ready: selectors.BaseSelector
    ) -> Orders:
        orders: Orders = []
        try:
            live[member].flush()
            for said in live[member].hear():
                if said.shared.identity == self.shared.identity:
                    orders += core.heard(member, said.word, said.reason, time.monotonic())
        except Lost as lost:
            orders += self._drop(member, str(lost), core, live, ready)
        return orders

    @staticmethod
    def _drop(
        member: str, why: str, core: Coordinator, live: Dict[str, Channel], ready: selectors.BaseSelector
    ) -> Orders:
        ready.unregister(live[member])
        live.pop(member).close()
        return core.lost(member, why, time.monotonic())
