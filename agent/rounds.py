"""One round of a replication group: what coordinator and members agree on before they share a point. Pure.

    coordinator                       each member, the coordinator's own server included
    prepare  ->                       catches up, writes back, makes its watchdogs ready
                          <- prepared
    freeze   ->           (all are prepared)   freezes, reads, proves that it is quiet
                          <- frozen
    release  ->           (all stand still)    proves once more that it was quiet, thaws, cuts
                          <- cut

Rules kept here:
- `release` is said once all members have said `frozen`, and to nobody before. So there is a moment at which all of
  them stood still, and each cut that says it belongs to the shared point holds the content of that moment.
- A member's cut belongs to the shared point only if `release` came while it still stood still, by its own clock.
- Whatever fails, is lost or comes late voids the round for all who were not released. It is not repeated.
- Who was released and then fails has no manifest of the shared point, and that is what makes it void for the others.
- A word of another round, a word twice, a word out of turn: changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Dict, List, Optional, Set, Tuple

from agent.reasons import Reason, reason

PREPARE, FREEZE, RELEASE, ABORT = "prepare", "freeze", "release", "abort"
PREPARED, FROZEN, CUT, FAILED = "prepared", "frozen", "cut", "failed"
ORDERS = frozenset({PREPARE, FREEZE, RELEASE, ABORT})
REPORTS = frozenset({PREPARED, FROZEN, CUT, FAILED})
PREPARE_SECONDS = 20.0
FREEZE_SECONDS = 3.0
CUT_SECONDS = 10.0


@dataclass(frozen=True)
class Shared:
    """The point that a round is about."""

    group: str
    identity: str
    members: Tuple[str, ...]
    time: str = ""  # of the coordinator's clock: a label that all members' cuts bear alike

    def as_dict(self) -> Dict[str, Any]:
        """Return it as a cut carries it."""
        return {"name": self.group, "id": self.identity, "members": list(self.members), "time": self.time}


class Phase(Enum):
    """How far a round is."""

    PREPARING = "preparing"
    FREEZING = "freezing"
    RELEASED = "released"
    SHARED = "shared"
    VOID = "void"


_AWAITED = {Phase.PREPARING: PREPARED, Phase.FREEZING: FROZEN, Phase.RELEASED: CUT}
_SECONDS = {Phase.PREPARING: PREPARE_SECONDS, Phase.FREEZING: FREEZE_SECONDS, Phase.RELEASED: CUT_SECONDS}
_LATE = {Phase.PREPARING: "get ready", Phase.FREEZING: "stand still", Phase.RELEASED: "say that they cut"}
Orders = List[Tuple[str, str]]


class Coordinator:
    """Decides over one round. Each call returns what is to be said now, as (member, order)."""

    def __init__(self, shared: Shared, now: float) -> None:
        self.shared = shared
        self.phase = Phase.PREPARING
        self.reason: Optional[Reason] = None  # why it is void
        self.deadline = now + PREPARE_SECONDS
        self._awaited: Set[str] = set(shared.members)

    @property
    def over(self) -> bool:
        """Tell whether nothing more is said."""
        return self.phase in (Phase.SHARED, Phase.VOID)

    def begin(self) -> Orders:
        """Ask all to prepare."""
        return [(member, PREPARE) for member in self.shared.members]

    def heard(self, member: str, word: str, why: Optional[Reason], now: float) -> Orders:
        """Take a member's word."""
        late = self.tick(now)
        if self.over:
            return late
        if word == FAILED and member in self.shared.members:
            code, message = (why.code, why.message) if why else ("unknown", "it gave no reason")
            return self._failed(member, f"{member}: {code}: {message}")
        if word == _AWAITED[self.phase] and member in self._awaited:
            self._awaited.discard(member)
            return self._next(now)
        return []

    def lost(self, member: str, why: str, now: float) -> Orders:
        """Note that nothing more comes from a member."""
        late = self.tick(now)
        if self.over or (self.phase is Phase.RELEASED and member not in self._awaited):
            return late
        return self._failed(member, f"{member}: {why}")

    def tick(self, now: float) -> Orders:
        """Note the time."""
        if self.over or now < self.deadline:
            return []
        who = ", ".join(sorted(self._awaited))
        return self._void("group-timeout", f"{who} did not {_LATE[self.phase]} within {_SECONDS[self.phase]:.0f} s", "")

    def _next(self, now: float) -> Orders:
        if self._awaited:
            return []
        if self.phase is Phase.RELEASED:
            self.phase = Phase.VOID if self.reason else Phase.SHARED
            return []
        before, self.phase = self.phase, Phase.FREEZING if self.phase is Phase.PREPARING else Phase.RELEASED
        self._awaited = set(self.shared.members)
        self.deadline = now + _SECONDS[self.phase]
        return [(member, FREEZE if before is Phase.PREPARING else RELEASE) for member in self.shared.members]

    def _failed(self, member: str, message: str) -> Orders:
        if self.phase is not Phase.RELEASED:
            return self._void("group-member-failed", message, member)
        self.reason = self.reason or reason("group-member-failed", message)
        self._awaited.discard(member)
        if not self._awaited:
            self.phase = Phase.VOID
        return []

    def _void(self, code: str, message: str, member: str) -> Orders:
        released = self.phase is Phase.RELEASED
        self.phase, self.reason = Phase.VOID, self.reason or reason(code, message)
        return [] if released else [(each, ABORT) for each in self.shared.members if each != member]


class Stage(Enum):
    """Where a member stands in a round."""

    CALLED = "called"
    PREPARED = "prepared"
    FREEZING = "freezing"
    FROZEN = "frozen"
    RELEASED = "released"
    CUT = "cut"
    VOID = "void"


class Member:
    """One server's part in a round. Its calls return what is to be said to the coordinator, None for nothing."""

    def __init__(self, shared: Shared, now: float) -> None:
        self.shared = shared
        self.stage = Stage.CALLED
        self.reason: Optional[Reason] = None  # why it is void
        self.deadline = now + PREPARE_SECONDS + FREEZE_SECONDS

    @property
    def over(self) -> bool:
        """Tell whether nothing more is said or heard."""
        return self.stage in (Stage.CUT, Stage.VOID)

    # -- what the coordinator says -------------------------------------------------------------------------------

    def heard(self, word: str, why: Optional[Reason]) -> None:
        """Take an order."""
        if word == FREEZE and self.stage is Stage.PREPARED:
            self.stage = Stage.FREEZING
        elif word == RELEASE and self.stage is Stage.FROZEN:
            self.stage = Stage.RELEASED
        elif word == ABORT:
            self._void(why or reason("group-void", "the coordinator gave no reason"))

    def lost(self, why: str) -> None:
        """Note that nothing more comes from the coordinator."""
        self._void(reason("group-lost", why))

    def tick(self, now: float) -> None:
        """Note the time: nobody waits for ever for an order to freeze. How long it stands still is the cut's matter."""
        if now >= self.deadline and self.stage in (Stage.CALLED, Stage.PREPARED):
            self._void(reason("group-timeout", "the coordinator did not go on in time"))

    # -- what the server does ------------------------------------------------------------------------------------

    def prepared(self) -> Optional[str]:
        """Say that everything is ready for a freeze."""
        return self._go(Stage.CALLED, Stage.PREPARED, PREPARED)

    def may_freeze(self) -> Optional[bool]:
        """Return whether to freeze now; None: not yet; False: never in this round."""
        if self.stage in (Stage.CALLED, Stage.PREPARED):
            return None
        return self.stage is Stage.FREEZING

    def frozen(self) -> Optional[str]:
        """Say that everything stands still, is read and was quiet."""
        return self._go(Stage.FREEZING, Stage.FROZEN, FROZEN)

    def gave_up(self) -> Optional[str]:
        """Say that it stood still as long as it may; a release that comes later counts no more."""
        if self.stage is not Stage.FROZEN:
            return None
        return self.failed(reason("group-timeout", "nobody released it as long as it could stand still"))

    def cut(self) -> Optional[str]:
        """Say that the cut is made, and belongs to the shared point."""
        return self._go(Stage.RELEASED, Stage.CUT, CUT)

    def failed(self, why: Reason) -> Optional[str]:
        """Say that this server's part is no part of a shared point."""
        if self.over:
            return None
        self.stage, self.reason = Stage.VOID, why
        return FAILED

    def _go(self, before: Stage, after: Stage, word: str) -> Optional[str]:
        if self.stage is not before:
            return None
        self.stage = after
        return word

    def _void(self, why: Reason) -> None:
        # Who was released is never called back: its proof of quiet is its own.
        if self.stage not in (Stage.RELEASED, Stage.CUT, Stage.VOID):
            self.stage, self.reason = Stage.VOID, why
