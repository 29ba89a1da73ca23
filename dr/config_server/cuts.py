"""Requested recovery points: who asked, how far it is, and the barrier that holds a frozen server.

| state | means | next |
| --- | --- | --- |
| requested | the agent hears it with its next heartbeat | frozen, sent, skipped |
| frozen | the server stands still until the requester releases it or the agent's deadline is over | sent, skipped |
| sent | the cut is in the stream | point, skipped |
| point | its manifest is in the vault | |
| skipped | there is no point; the reason says why | |

In memory only: whoever waits for a cut finds `not-found` after a restart and asks again.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

from dr.errors import Conflict, NotFound


class CutState(Enum):
    """How far a requested recovery point is."""

    REQUESTED = "requested"
    FROZEN = "frozen"
    SENT = "sent"
    POINT = "point"
    SKIPPED = "skipped"


NEXT = {
    CutState.REQUESTED: {CutState.FROZEN, CutState.SENT, CutState.SKIPPED},
    CutState.FROZEN: {CutState.SENT, CutState.SKIPPED},
    CutState.SENT: {CutState.POINT, CutState.SKIPPED},
    CutState.POINT: set[CutState](),
    CutState.SKIPPED: set[CutState](),
}
MAX_OPEN = 8
EXPIRES_SECONDS = 300.0
KEPT_SECONDS = 3600.0


@dataclass(slots=True)
class Cut:
    """One request; changed only by its desk."""

    id: str
    server: str
    barrier: bool
    asked_at: float  # seconds of the desk's clock
    app_consistent: bool = False  # the server's applications are to be asked
    state: CutState = CutState.REQUESTED
    released: bool = False
    number: int | None = None
    point: str | None = None
    reason: Mapping[str, Any] | None = None  # of a point: why it is not application-consistent

    @property
    def ended(self) -> bool:
        """Tell whether nothing more will happen."""
        return not NEXT[self.state]

    def document(self) -> dict[str, Any]:
        """Return what the API answers."""
        return {"id": self.id, "state": self.state.value, "point": self.point, "reason": self.reason}


class CutDesk:
    """All requests of a site; belongs to one event loop. `clock` gives seconds that only grow."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._cuts: dict[str, Cut] = {}
        self._changed = asyncio.Event()

    def request(self, server: str, *, barrier: bool, app_consistent: bool = False) -> Cut:
        """Ask for a recovery point. `Conflict` `too-many-cuts` when too many are under way."""
        self._expire()
        if sum(not cut.ended for cut in self._cuts.values() if cut.server == server) >= MAX_OPEN:
            raise Conflict(f"{server}: {MAX_OPEN} recovery points are asked for already", code="too-many-cuts")
        cut = Cut(secrets.token_hex(8), server, barrier, self._clock(), app_consistent)
        self._cuts[cut.id] = cut
        return cut

    def find(self, server: str, cut_id: str) -> Cut:
        """Return a request. `NotFound` `unknown-cut`."""
        self._expire()
        cut = self._cuts.get(cut_id)
        if cut is None or cut.server != server:
            raise NotFound(
                f'{server}: no recovery point was asked for under "{cut_id}"',
                code="unknown-cut",
                remedy="ask for a recovery point again; a restart of the configuration server forgets requests",
            )
        return cut

    def next_for(self, server: str) -> Cut | None:
        """Return the oldest request that the agent did not answer yet; it hears it until it does."""
        self._expire()
        waiting = [c for c in self._cuts.values() if c.server == server and c.state is CutState.REQUESTED]
        return min(waiting, key=lambda cut: cut.asked_at, default=None)

    async def hold(self, cut: Cut, seconds: float) -> bool:
        """Hold the frozen agent until release; True when released. Without a barrier nobody is waited for."""
        if cut.state is CutState.REQUESTED:
            self._move(cut, CutState.FROZEN)
        if not cut.barrier:
            return not cut.ended
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not cut.released and cut.state is CutState.FROZEN:
                    await self._changed.wait()
        return cut.released and not cut.ended

    def release(self, cut: Cut) -> None:
        """End the barrier. `Conflict` `cut-ended` when the agent does not wait any more."""
        if cut.state not in {CutState.REQUESTED, CutState.FROZEN} and not cut.released:
            raise Conflict(f"{cut.server}: the cut is over already ({cut.state.value})", code="cut-ended")
        cut.released = True
        self._notify()

    def sent(self, cut: Cut, number: int, warning: Mapping[str, Any] | None = None) -> None:
        """Note that the cut is in the stream under `number`; repeated answers change nothing.

        `warning` says why it is not application-consistent although somebody asked for that.
        """
        if CutState.SENT in NEXT[cut.state]:
            cut.number, cut.reason = number, warning
            self._move(cut, CutState.SENT)

    def skipped(self, cut: Cut, reason: Mapping[str, Any]) -> None:
        """Note that there will be no point, and why."""
        if not cut.ended:
            cut.reason = reason
            self._move(cut, CutState.SKIPPED)

    def became(self, cut: Cut, point: str) -> None:
        """Note the recovery point that the cut became."""
        if cut.state is CutState.SENT:
            cut.point = point
            self._move(cut, CutState.POINT)

    def open_sent(self) -> list[Cut]:
        """Return the requests whose manifest is awaited."""
        return [cut for cut in self._cuts.values() if cut.state is CutState.SENT]

    async def wait_changed(self, cut: Cut, known: CutState, seconds: float) -> None:
        """Return when the state is another than `known`, the cut ended, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while cut.state is known and not cut.ended:
                    await self._changed.wait()

    def _move(self, cut: Cut, state: CutState) -> None:
        assert state in NEXT[cut.state], (cut.state, state)
        cut.state = state
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _expire(self) -> None:
        now = self._clock()
        for cut in list(self._cuts.values()):
            age = now - cut.asked_at
            if cut.state in {CutState.REQUESTED, CutState.FROZEN} and age > EXPIRES_SECONDS:
                self.skipped(
                    cut,
                    {
                        "code": "agent-silent",
                        "message": f"the agent did not answer within {EXPIRES_SECONDS:.0f} s",
                        "remedy": "see `dr status`; ask again when the agent is heard",
                    },
                )
            if cut.ended and age > KEPT_SECONDS:
                del self._cuts[cut.id]
