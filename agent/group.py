"""A server's replication group, for the loop of the agent: when to cut with the others, and what to say of it.

Rules kept here:
- The site says who the members are, where, and which one coordinates; until it has, nobody is called or let in.
- A member waits a little for the coordinator's round before it makes a point of its own, as long as rounds come.
- Whatever is wrong with the group, the points of the single server go on; `document` names it.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Callable, Dict, Mapping, Optional

from agent import log
from agent.answering import Answering
from agent.calling import Calling
from agent.link import Tls
from agent.peers import Members
from agent.reasons import Reason, reason
from agent.round_barrier import RoundBarrier
from agent.round_words import MAX_MEMBERS

GRACE_SECONDS = 15.0
AGAIN_SECONDS = 30.0  # after a round that failed, at most
LISTEN_AGAIN_SECONDS = 5.0


class Group:
    """Belongs to the thread that cuts; `wake` is called when there is something to do for it."""

    def __init__(self, tls: Tls, wake: Callable[[], None]) -> None:
        self._tls = tls
        self._wake = wake
        self._members: Optional[Members] = None
        self._answering: Optional[Answering] = None
        self._listen_at = 0.0
        self._port_taken: Optional[Reason] = None
        self._lock = threading.Lock()
        self._asked: Optional[RoundBarrier] = None
        self._taken: Optional[RoundBarrier] = None
        self._rounds_come = False
        self._calling: Optional[Calling] = None
        self._call_at = 0.0
        self._again_seconds = AGAIN_SECONDS
        self._last_round: Optional[Dict[str, Any]] = None

    def follow(self, members: Optional[Members]) -> None:
        """Take over what the site says; None: this server is in no group."""
        before, self._members = self._members, members
        if before is not None and (members is None or members.name != before.name):
            self._last_round, self._rounds_come = None, False
        answers = members is not None and members.own != members.coordinator
        if self._answering is not None and (members is None or not answers or members.port != self._answering.port):
            self._answering.stop()
            self._answering, self._port_taken = None, None
        if not answers or members is None:
            self._port_taken = None
            return
        if self._answering is not None:
            self._answering.members = members
        elif time.monotonic() >= self._listen_at:
            self._listen(members)

    def turn(self, *, due: bool, interval_seconds: float) -> Optional[RoundBarrier]:
        """Return what to cut with now, together with the others; None: there is no such cut now.

        `due` says that the policy wants a point: on the coordinator, that begins a round.
        """
        if self._members is None or self._members.own != self._members.coordinator:
            return self._asked_round()
        self._again_seconds = max(1.0, min(AGAIN_SECONDS, interval_seconds / 2))
        self._end_round()
        calling = self._calling
        if calling is None:
            if due and time.monotonic() >= self._call_at:
                self._calling = Calling(self._members, self._tls, self._wake)
            return None
        barrier = calling.barrier
        if barrier is None or barrier is self._taken or barrier.over:
            return None
        self._taken = barrier
        return barrier

    def waits(self, overdue_seconds: float, interval_seconds: float) -> bool:
        """Tell whether a point of this server alone, due since `overdue_seconds`, should wait for one of all."""
        members = self._members
        if members is None:
            return False
        if members.own == members.coordinator:
            return self._calling is not None and self._calling.barrier is None
        if overdue_seconds > min(GRACE_SECONDS, interval_seconds):
            self._rounds_come = False
        return self._rounds_come

    def refuse(self, why: Reason) -> None:
        """Say that this server cannot take part now."""
        barrier = self._asked_round()
        if barrier is not None:
            barrier.failed(why)
        calling = self._calling
        if calling is not None and calling.barrier is not None and calling.barrier is not self._taken:
            calling.barrier.failed(why)

    def document(self) -> Optional[Dict[str, Any]]:
        """Return what AgentStatus says of the group, None without one."""
        if self._members is None:
            return None
        self._end_round()
        return {
            "name": self._members.name,
            "coordinator": self._members.coordinator,
            "reason": self._port_taken.as_dict() if self._port_taken else None,
            "last_round": self._last_round,
        }

    def stop(self) -> None:
        """End soon; nobody waits for it."""
        if self._answering is not None:
            self._answering.stop()

    def _listen(self, members: Members) -> None:
        try:
            self._answering, self._port_taken = Answering(members, self._tls, self._called), None
        except OSError as error:
            self._listen_at = time.monotonic() + LISTEN_AGAIN_SECONDS
            message = f"nobody can call this member: port {members.port}: {error.strerror or error}"
            if self._port_taken is None:
                log.say(f"group {members.name}: {message}")
            self._port_taken = reason("group-port-taken", message)

    def _called(self, barrier: RoundBarrier) -> None:
        with self._lock:
            self._asked = barrier
        self._wake()

    def _asked_round(self) -> Optional[RoundBarrier]:
        with self._lock:
            asked, self._asked = self._asked, None
        if asked is None:
            if self._taken is not None and self._taken.over:
                self._rounds_come, self._taken = self._taken.shared, None
            return None
        if asked.over:
            return None
        self._taken = asked
        return asked

    def _end_round(self) -> None:
        calling = self._calling
        if calling is None or not calling.over:
            return
        self._calling = self._taken = None
        why = calling.reason
        if why is not None:
            self._call_at = time.monotonic() + self._again_seconds
            if self._last_round is None or self._last_round["outcome"] == "shared":
                log.say(f"group {calling.shared.group}: no shared point: {why.message}")
        elif self._last_round is not None and self._last_round["outcome"] == "void":
            log.say(f"group {calling.shared.group}: points are shared again")
        self._last_round = {
            "id": calling.shared.identity,
            "outcome": "shared" if why is None else "void",
            "reason": why.as_dict() if why else None,
        }


def told(site: str, own: str, group: Any, revoked: "frozenset[str]") -> Optional[Members]:
    """Return the group as a heartbeat's answer tells it; None when it tells none, or nothing that can be used."""
    if not isinstance(group, Mapping):
        return None
    addresses, port = group.get("members"), group.get("port")
    name, coordinator = str(group.get("name")), str(group.get("coordinator"))
    if not isinstance(addresses, dict) or not 2 <= len(addresses) <= MAX_MEMBERS:
        return None
    if not isinstance(port, int) or not 0 < port < 65536 or not {own, coordinator} <= set(addresses):
        return None
    members = {str(member): str(address) for member, address in addresses.items()}
    return Members(site, own, name, members, coordinator, port, revoked)
