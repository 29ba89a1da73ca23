"""The thread that talks to the configuration server: heartbeat, requested cuts, their results."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import Any, Callable, Deque, Dict, FrozenSet, Mapping, Optional, Protocol, Tuple

from agent import log
from agent.link import Link, Tls, pause_seconds
from agent.reasons import Reason
from dr.errors import Unreachable

HEARTBEAT_SECONDS = 2.0
ANSWER_SECONDS = 15.0


class Barrier(Protocol):
    """Where a cut waits while it stands still; `agent.round_barrier` has the one of a group."""

    required: bool  # without a release there is no point

    def may_freeze(self) -> Optional[bool]: ...

    def wait(self, cut: str, seconds: float) -> bool: ...

    def failed(self, why: Reason) -> None: ...

    def claim(self) -> Optional[Dict[str, Any]]: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class CutRequest:
    """A recovery point that somebody asked for; with a barrier, the thaw waits until it is released."""

    identity: str
    barrier: bool
    app_consistent: bool = False


class Control:
    """Sends `status()` every two seconds and keeps what was answered."""

    def __init__(
        self,
        server: str,
        address: str,
        tls: Tls,
        status: Callable[[], Mapping[str, Any]],
        wake: threading.Event,
    ) -> None:
        self._path = f"/v1/agents/{server}"
        self._address = address
        self._tls = tls
        self._link = Link(address, tls)
        self._status = status
        self._wake = wake
        self._soon = threading.Event()
        self._stopped = False
        self._results: Deque[Tuple[str, Dict[str, Any]]] = deque()
        self._thread = threading.Thread(target=self._run, name="control", daemon=True)
        self.policy: Mapping[str, Any] = {}
        self.cut_request: Optional[CutRequest] = None
        self.resync_request: Optional[str] = None
        self.verification_request: Optional[str] = None
        self.protection_epoch = 0
        self.group: Any = None  # as the site tells it; `agent.group.told` reads it
        self.revoked: FrozenSet[str] = frozenset()  # serial numbers, of which only a member of a group is told
        self._revocations = ""
        self.reachable = True

    @property
    def bandwidth_bytes_per_second(self) -> Optional[int]:
        """Return what may be sent now, None without a limit."""
        value = self.policy.get("bandwidth_bytes_per_second")
        return value if isinstance(value, int) and value > 0 else None

    @property
    def resync_waits_until(self) -> Optional[str]:
        """Return until when the policy lets a resync wait, None when it may run."""
        value = self.policy.get("resync_waits_until")
        return value[:64] if isinstance(value, str) else None

    @property
    def app_consistent_seconds(self) -> Optional[float]:
        """Return the time between two application-consistent points, None when the policy wants none."""
        value = self.policy.get("app_consistent_seconds")
        return float(value) if isinstance(value, (int, float)) and value > 0 else None

    def start(self) -> None:
        """Begin to send heartbeats."""
        self._thread.start()

    def stop(self) -> None:
        """End soon; nobody waits for it."""
        self._stopped = True
        self._soon.set()

    def soon(self) -> None:
        """Send a heartbeat now: something changed."""
        self._soon.set()

    def report(self, cut: str, result: Dict[str, Any]) -> None:
        """Tell how a requested cut ended; repeated until it is delivered."""
        self._results.append((cut, result))
        self._soon.set()

    def barrier(self) -> Barrier:
        """Connect for a barrier now, because a frozen server should not have to. Raises `Unreachable`."""
        link = Link(self._address, self._tls)
        link.open()
        return RequestBarrier(link, self._path)

    def _run(self) -> None:
        attempt = 0
        while not self._stopped:
            try:
                self._beat()
                self._deliver()
                if not self.reachable:
                    log.say("configuration server: reachable again")
                self.reachable, attempt = True, 0
                pause = HEARTBEAT_SECONDS
            except Unreachable as error:
                if self.reachable:
                    log.say(f"configuration server: unreachable: {error.message}")
                self.reachable, attempt = False, attempt + 1
                pause = pause_seconds(attempt, longest=10.0)
            self._soon.wait(pause)
            self._soon.clear()

    def _beat(self) -> None:
        path = f"{self._path}/heartbeat?revocations={self._revocations}"
        answer = self._link.request("POST", path, self._status(), seconds=ANSWER_SECONDS)
        if not answer.ok:
            raise Unreachable(f"{answer.code}: {answer.message}")
        policy, request = answer.body.get("policy"), answer.body.get("cut_request")
        self.policy = policy if isinstance(policy, dict) else {}
        epoch = answer.body.get("protection_epoch")
        self.protection_epoch = epoch if isinstance(epoch, int) else 0
        before = (self.cut_request, self.resync_request)
        asked = answer.body.get("resync_request")
        self.resync_request = asked[:64] if isinstance(asked, str) else None
        verification = answer.body.get("verification_request")
        self.verification_request = verification[:64] if isinstance(verification, str) else None
        self._hear_of_group(answer.body)
        self.cut_request = None
        if isinstance(request, dict) and request.get("id"):
            app_consistent = bool(request.get("app_consistent"))
            self.cut_request = CutRequest(str(request["id"]), bool(request.get("barrier")), app_consistent)
        if (self.cut_request, self.resync_request) != before:
            self._wake.set()

    def _hear_of_group(self, body: Mapping[str, Any]) -> None:
        revocations = body.get("revocations")
        if isinstance(revocations, dict):
            serials = revocations.get("serials")
            self.revoked = frozenset(map(str, serials if isinstance(serials, list) else ()))
            self._revocations = str(revocations.get("version", ""))[:64]
        # Last: who may come in is never known before who may not.
        self.group = body.get("group") if self._revocations else None

    def _deliver(self) -> None:
        while self._results:
            cut, result = self._results[0]
            answer = self._link.request("POST", f"{self._path}/cuts/{cut}/result", result, seconds=ANSWER_SECONDS)
            if not answer.ok:
                log.say(f"configuration server: the result of cut {cut} was refused: {answer.code}: {answer.message}")
            self._results.popleft()


class RequestBarrier:
    """An open connection on which a frozen server says so, and waits to be released."""

    required = True  # a cut that was not released is none

    def __init__(self, link: Link, path: str) -> None:
        self._link = link
        self._path = path

    def wait(self, cut: str, seconds: float) -> bool:
        """Say that the server is frozen; return whether it was released within `seconds`. Raises `Unreachable`."""
        path = f"{self._path}/cuts/{cut}/frozen?wait={seconds:.1f}"
        answer = self._link.request("POST", path, {}, seconds=seconds + 0.5)
        return answer.ok and answer.body.get("released") is True

    def may_freeze(self) -> Optional[bool]:
        """Return that nobody else has to get ready."""
        return True

    def failed(self, why: Reason) -> None:
        """Take note of an attempt that was no cut; the result says so."""

    def claim(self) -> Optional[Dict[str, Any]]:
        """Return that the point is shared with nobody."""
        return None

    def close(self) -> None:
        """Close the connection."""
        self._link.close()
