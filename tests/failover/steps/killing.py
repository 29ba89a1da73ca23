"""A store under a step that fails, loses its answers or dies at any call; and what the step did in the world."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from dr.failover.steps.performing import Act, Doer, Outcome, Policy
from dr.failover.steps.records import Key, State
from dr.vault.memory import MemoryBlobStore
from tests.provider.worlds import NOW

KEY = Key("shop", "r1", "switch-dns", "0badcafe")
POLICY = Policy(60, 1, pause_seconds=0)
DONE, FAILED = Outcome(State.DONE, "well"), Outcome(State.FAILED, "exit code 3", 3)


class Killed(BaseException):
    """The process died here."""


@dataclass
class Mortal:
    """Dies at the moment `death` (1 is the first; None: never): before or after a call of the store, or in the act."""

    death: int | None = None
    moments: int = 0

    def moment(self) -> None:
        self.moments += 1
        if self.moments == self.death:
            raise Killed


class MortalStore(MemoryBlobStore):
    """A store in memory; its user may die before and after each call that a step makes."""

    def __init__(self) -> None:
        super().__init__()
        self.mortal = Mortal()

    def put(
        self, container: str, name: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None
    ) -> str:
        self.mortal.moment()
        try:
            return super().put(container, name, data, if_absent=if_absent, if_match=if_match)
        finally:
            self.mortal.moment()

    def get(self, container: str, name: str) -> tuple[bytes, str]:
        self.mortal.moment()
        return super().get(container, name)

    def list(self, container: str, prefix: str = "") -> Iterator[str]:
        self.mortal.moment()
        return super().list(container, prefix)


@dataclass
class World:
    """The action: what it did in the world, and what each attempt is to end with."""

    store: MortalStore
    outcomes: list[Outcome] = field(default_factory=list)  # then: DONE
    effects: list[tuple[int, State]] = field(default_factory=list)

    def prepare(self) -> Act:
        return self

    def __call__(self, number: int) -> Outcome:
        self.store.mortal.moment()
        outcome = self.outcomes.pop(0) if self.outcomes else DONE
        self.effects.append((number, outcome.state))
        self.store.mortal.moment()
        return outcome


@dataclass
class Clock:
    now: datetime = NOW
    calls: int = 0

    def doer(self) -> Doer:
        self.calls += 1
        return Doer(f"here/1/{self.calls}", self.tick, lambda seconds: False)

    def tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now
