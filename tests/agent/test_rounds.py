"""The protocol of a replication group under every order, loss, repetition, delay and death that a network can make.

A model of servers (they freeze, stand still, thaw by their own clock, die) around the cores that the agent runs.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.reasons import Reason, reason
from agent.round_words import MAX_LINE_BYTES, MAX_WORDS, Garbage, Reader, Said, line_of
from agent.rounds import FREEZE_SECONDS, ORDERS, RELEASE, REPORTS, Coordinator, Member, Orders, Phase, Shared, Stage

STANDS_STILL_SECONDS = 2.0
ROUND_SECONDS = 40


@dataclass(frozen=True)
class Weather:
    """How bad it is: probabilities, and the longest delay of a word in seconds."""

    lose: float = 0.0
    repeat: float = 0.0
    cut_off: float = 0.0
    die: float = 0.0
    busy: float = 0.0
    delay: float = 0.0
    slow: float = 0.0  # the longest a server takes for a step


CALM = Weather(delay=0.05, slow=0.2)


@dataclass
class Server:
    """One member as a machine; times are those of the simulation, None: never."""

    name: str
    core: Member | None = None
    alive: bool = True
    frozen_at: float | None = None
    thawed_at: float | None = None
    asked_to_freeze: bool = False
    shares: bool = False  # its manifest will say that it belongs to the shared point


@dataclass
class Simulation:
    """One round. `run` ends it; the servers tell what came of it."""

    chance: random.Random
    weather: Weather
    names: tuple[str, ...] = ("db1", "shop1", "web1")
    make: Callable[[Shared, float], Coordinator] = Coordinator
    now: float = 0.0
    events: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    count: int = 0

    def __post_init__(self) -> None:
        self.shared = Shared("shop", "r1", self.names)
        self.servers = {name: Server(name) for name in self.names}
        self.coordinator = self.make(self.shared, 0.0)
        self.first = self.servers[self.names[0]]  # the coordinator runs here, and dies with it

    def at(self, delay: float, what: Callable[[], None]) -> None:
        self.count += 1
        heapq.heappush(self.events, (self.now + delay, self.count, what))

    def run(self) -> None:
        for server in self.servers.values():
            if self.chance.random() < self.weather.die:
                self.at(self.chance.uniform(0, 8), lambda server=server: self.dies(server))  # type: ignore[misc]
            if self.chance.random() < self.weather.cut_off:
                self.at(self.chance.uniform(0, 8), lambda server=server: self.cut_off(server))  # type: ignore[misc]
        self.order(self.coordinator.begin())
        for second in range(ROUND_SECONDS):
            self.at(second, self.tick)
        while self.events:
            self.now, _, what = heapq.heappop(self.events)
            what()

    def tick(self) -> None:
        if self.first.alive:
            self.order(self.coordinator.tick(self.now))
        for server in self.servers.values():
            if server.core is not None and server.alive:
                server.core.tick(self.now)
                self.goes_on(server)

    # the network: anything may happen to a word, not only what TCP allows

    def carry(self, deliver: Callable[[], None]) -> None:
        for _ in range(2 if self.chance.random() < self.weather.repeat else 1):
            if self.chance.random() >= self.weather.lose:
                self.at(self.chance.uniform(0, self.weather.delay), deliver)

    def order(self, orders: Orders) -> None:
        for name, word in orders:
            server = self.servers[name]
            if server is self.first:
                self.at(0, lambda server=server, word=word: self.hears(server, word))  # type: ignore[misc]
            else:
                self.carry(lambda server=server, word=word: self.hears(server, word))  # type: ignore[misc]

    def report(self, server: Server, word: str | None) -> None:
        if word is None:
            return
        why = server.core.reason if server.core else None

        def deliver() -> None:
            if self.first.alive:
                self.order(self.coordinator.heard(server.name, word, why, self.now))

        if server is self.first:
            self.at(0, deliver)
        else:
            self.carry(deliver)

    def cut_off(self, server: Server) -> None:
        if server is self.first:
            return
        if self.first.alive:
            self.order(self.coordinator.lost(server.name, "it is gone", self.now))
        if server.alive and server.core is not None:
            server.core.lost("the coordinator is gone")
            self.goes_on(server)

    def dies(self, server: Server) -> None:
        server.alive = False
        self.thaws(server)
        for other in self.servers.values():
            if server is self.first and other is not server:
                self.at(self.chance.uniform(0, 30), lambda other=other: self.cut_off(other))  # type: ignore[misc]
        if server is not self.first:
            self.at(self.chance.uniform(0, 30), lambda: self.cut_off(server))

    # a server

    def takes(self) -> float:
        return self.chance.uniform(0, self.weather.slow)

    def hears(self, server: Server, word: str) -> None:
        if not server.alive:
            return
        if word == "prepare":
            if server.core is None:
                server.core = Member(self.shared, self.now)
                self.at(self.takes(), lambda: self.is_ready(server))
            return
        if server.core is not None:
            server.core.heard(word, None)
            self.goes_on(server)

    def is_ready(self, server: Server) -> None:
        if server.alive and server.core is not None:
            self.report(server, server.core.prepared())

    def goes_on(self, server: Server) -> None:
        core = server.core
        assert core is not None
        if core.may_freeze() and not server.asked_to_freeze:
            server.asked_to_freeze = True
            self.at(self.takes(), lambda: self.freezes(server))
        if core.stage is Stage.RELEASED and server.thawed_at is None:
            self.thaws(server)
            if self.chance.random() < self.weather.busy:
                self.report(server, core.failed(reason("busy-unfrozen-writer", "a write")))
            else:
                server.shares = True
                self.report(server, core.cut())
        elif core.stage is Stage.VOID:
            self.thaws(server)

    def freezes(self, server: Server) -> None:
        if not server.alive or server.core is None:
            return
        server.frozen_at = self.now
        if self.chance.random() < self.weather.busy:
            self.report(server, server.core.failed(reason("busy-unfrozen-writer", "a write")))
            self.thaws(server)
        else:
            self.at(self.takes(), lambda: self.stands_still(server))

    def stands_still(self, server: Server) -> None:
        if server.alive and server.core is not None and server.thawed_at is None:
            self.report(server, server.core.frozen())
            self.at(STANDS_STILL_SECONDS, lambda: self.has_waited(server))

    def has_waited(self, server: Server) -> None:
        if server.alive and server.core is not None and server.thawed_at is None:
            self.report(server, server.core.gave_up())
            self.thaws(server)

    def thaws(self, server: Server) -> None:
        if server.frozen_at is not None and server.thawed_at is None:
            server.thawed_at = self.now

    # what must hold

    @property
    def exists(self) -> bool:
        """Tell whether there may be a shared point: all members' manifests say so, if their cuts arrive."""
        return all(server.shares for server in self.servers.values())

    def one_instant(self) -> bool:
        """Tell whether there was a moment at which all who share stood still."""
        frozen = [server.frozen_at for server in self.servers.values() if server.frozen_at is not None]
        thawed = [server.thawed_at for server in self.servers.values() if server.thawed_at is not None]
        return len(frozen) == len(thawed) == len(self.servers) and max(frozen) <= min(thawed)


weathers = st.builds(
    Weather,
    lose=st.sampled_from([0.0, 0.05, 0.3]),
    repeat=st.sampled_from([0.0, 0.3]),
    cut_off=st.sampled_from([0.0, 0.3]),
    die=st.sampled_from([0.0, 0.3]),
    busy=st.sampled_from([0.0, 0.1]),
    delay=st.sampled_from([0.0, 0.3, 2.0, 6.0]),
    slow=st.sampled_from([0.0, 0.5, 2.0, 30.0]),
)
groups = st.integers(2, 16).map(lambda size: tuple(f"server{n}" for n in range(size)))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 1 << 32), weathers, groups)
def test_a_shared_point_is_one_instant_or_there_is_none(seed: int, weather: Weather, names: tuple[str, ...]) -> None:
    world = Simulation(random.Random(seed), weather, names)
    world.run()
    assert not world.exists or world.one_instant()
    assert world.exists or world.coordinator.phase is not Phase.SHARED or not world.first.alive
    for server in world.servers.values():
        if server.frozen_at is not None:
            assert server.thawed_at is not None
            assert server.thawed_at - server.frozen_at <= weather.slow + STANDS_STILL_SECONDS + 0.001
        if server.core is not None and server.alive:
            assert server.core.over or server.core.stage in {Stage.FREEZING, Stage.FROZEN}
    assert world.coordinator.over or not world.first.alive


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1 << 32), groups)
def test_in_calm_weather_there_always_is_one(seed: int, names: tuple[str, ...]) -> None:
    world = Simulation(random.Random(seed), CALM, names)
    world.run()
    assert world.exists
    assert world.coordinator.phase is Phase.SHARED
    assert world.one_instant()


class Hasty(Coordinator):
    """A coordinator that forgets the barrier: whoever stands still is released at once."""

    def heard(self, member: str, word: str, why: Reason | None, now: float) -> Orders:
        early = [(member, RELEASE)] if word == "frozen" else []
        return [*super().heard(member, word, why, now), *early]


def test_the_model_finds_a_coordinator_without_a_barrier() -> None:
    found = 0
    for seed in range(20):
        world = Simulation(random.Random(seed), CALM, make=Hasty)
        world.run()
        found += world.exists and not world.one_instant()
    assert found


def test_a_release_that_comes_after_the_own_deadline_counts_no_more() -> None:
    member = Member(Shared("shop", "r1", ("a", "b")), 0.0)
    member.prepared()
    member.heard("freeze", None)
    assert member.may_freeze()
    assert member.frozen() == "frozen"
    assert member.gave_up() == "failed"
    member.heard("release", None)
    assert member.stage is Stage.VOID
    assert member.cut() is None


def test_whoever_does_not_freeze_in_time_is_named() -> None:
    shared = Shared("shop", "r1", ("a", "b", "c"))
    core = Coordinator(shared, 0.0)
    for member in shared.members:
        core.heard(member, "prepared", None, 1.0)
    core.heard("a", "frozen", None, 1.5)
    assert sorted(core.tick(1.0 + FREEZE_SECONDS)) == [(member, "abort") for member in shared.members]
    assert core.reason is not None
    assert core.reason.message == "b, c did not stand still within 3 s"


members = st.lists(st.text(max_size=9), max_size=16).map(tuple)
words = st.builds(
    Said,
    st.sampled_from(sorted(ORDERS | REPORTS)),
    st.builds(Shared, st.text(max_size=20), st.text(max_size=20), members, st.text(max_size=20)),
    st.none() | st.builds(Reason, st.text(max_size=20), st.text(max_size=50), st.text(max_size=20)),
)


@pytest.mark.thorough
@settings(max_examples=50, deadline=None)
@given(st.lists(words, max_size=4), st.data())
def test_words_arrive_as_they_were_said_however_they_are_torn(said: list[Said], data: st.DataObject) -> None:
    wire, reader, heard = b"".join(map(line_of, said)), Reader(), []
    while wire:
        size = data.draw(st.integers(1, len(wire)))
        heard += reader.feed(wire[:size])
        wire = wire[size:]
    assert heard == said


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=300).map(lambda noise: noise + b"\n"))
def test_garbage_is_refused_by_name(noise: bytes) -> None:
    with pytest.raises(Garbage):
        Reader().feed(noise)


@pytest.mark.parametrize(
    "noise",
    [
        b"x" * (MAX_LINE_BYTES + 1),
        b"[" * MAX_LINE_BYTES + b"\n",
        line_of(Said("freeze", Shared("g", "r", ("m",) * 17))),
        line_of(Said("freeze", Shared("g", "r", ("a",)))) * (MAX_WORDS + 1),
    ],
)
def test_whoever_says_too_much_is_refused(noise: bytes) -> None:
    with pytest.raises(Garbage):
        Reader().feed(noise)
