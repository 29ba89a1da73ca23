"""The pure core of the verification pass: what is drift, what is only busy, and when a pass ends."""

from __future__ import annotations

import random

from agent.chunk_map import CLEAN, DIRTY, SENT, ChunkMap
from agent.verifying import LOOK_CHUNKS, SWEEPS, Look, Pass

SETTLE = 30.0


class Disks:
    """Simulated disks and replicas; a look compares them as the thread of a verifier would."""

    def __init__(self, **chunks: int) -> None:
        self.maps = {name: ChunkMap(bytearray(count)) for name, count in chunks.items()}
        self.disk = {name: [0] * count for name, count in chunks.items()}
        self.replica = {name: [0] * count for name, count in chunks.items()}
        self.passing = Pass("p1", self.maps, SETTLE)
        self.now = 100.0

    def compare(self, look: Look) -> list[int]:
        return [
            chunk
            for first, count in look.runs
            for chunk in range(first, first + count)
            if self.disk[look.disk][chunk] != self.replica[look.disk][chunk]
        ]

    def step(self) -> bool:
        look = self.passing.next(self.now)
        if look is None:
            self.now += SETTLE
            return False
        self.passing.looked(look, self.compare(look), self.now)
        return True

    def to_the_end(self) -> Pass:
        for _ in range(10_000):
            if self.passing.ended:
                return self.passing
            self.step()
        raise AssertionError("the pass does not end")

    def replicate(self, disk: str, chunk: int) -> None:
        self.replica[disk][chunk] = self.disk[disk][chunk]
        self.maps[disk].take(DIRTY, chunk, 1)
        self.maps[disk].settle(chunk)

    def write(self, disk: str, chunk: int, value: int) -> None:
        self.disk[disk][chunk] = value
        self.maps[disk].mark(chunk, chunk)
        self.passing.written(disk, chunk, chunk)


def test_equal_disks_are_compared_whole() -> None:
    disks = Disks(os=3 * LOOK_CHUNKS + 7, data=5)
    done = disks.to_the_end()
    assert (done.compared, done.total, done.drift) == (3 * LOOK_CHUNKS + 12, 3 * LOOK_CHUNKS + 12, [])


def test_what_differs_twice_without_a_write_is_drift_and_is_sent() -> None:
    disks = Disks(os=100, data=100)
    disks.disk["data"][42] = 1  # and nobody was told
    done = disks.to_the_end()
    assert done.drift == [("data", 42)] and done.compared == done.total
    assert disks.maps["data"].state(42) == DIRTY
    assert all(disks.maps["os"].state(chunk) == CLEAN for chunk in range(100))


def test_one_difference_alone_is_no_drift() -> None:
    disks = Disks(os=10)
    disks.disk["os"][3] = 1  # a write that is on the disk before its completion is told
    assert disks.step()
    assert not disks.passing.ended and disks.passing.drift == []
    disks.write("os", 3, 1)
    disks.replicate("os", 3)
    done = disks.to_the_end()
    assert done.drift == [] and done.compared == done.total


def test_a_write_between_reading_and_judging_is_no_drift() -> None:
    disks = Disks(os=10)
    look = disks.passing.next(disks.now)
    assert look is not None
    old = disks.compare(look)
    disks.write("os", 5, 9)
    disks.passing.looked(look, [*old, 5], disks.now)
    disks.replicate("os", 5)
    assert disks.to_the_end().drift == []


def test_a_write_between_the_two_looks_leaves_the_chunk_to_a_later_sweep() -> None:
    disks = Disks(os=10)
    disks.disk["os"][3] = 1
    disks.step()
    disks.now += SETTLE
    look = disks.passing.next(disks.now)
    assert look is not None and look.again and look.runs == ((3, 1),)
    disks.write("os", 3, 2)  # while the second look reads
    disks.passing.looked(look, [3], disks.now)
    assert disks.passing.drift == [] and not disks.passing.ended
    disks.replicate("os", 3)
    done = disks.to_the_end()
    assert done.drift == [] and done.compared == done.total


def test_what_is_never_quiet_is_left_out_and_counted() -> None:
    disks = Disks(os=10)
    disks.write("os", 0, 1)
    disks.maps["os"].mark(9, 9)
    disks.maps["os"].take(DIRTY, 9, 1)
    assert disks.maps["os"].state(9) == SENT
    done = disks.to_the_end()
    assert done.compared == 8 and done.drift == []
    assert disks.now >= 100 + (SWEEPS - 1) * SETTLE


def test_what_could_not_be_compared_is_tried_again() -> None:
    disks = Disks(os=2 * LOOK_CHUNKS)
    disks.disk["os"][1] = 1
    for _ in range(2):
        look = disks.passing.next(disks.now)
        assert look is not None
        disks.passing.looked(look, None, disks.now)
    assert disks.passing.compared == 0
    while not (look := disks.passing.next(disks.now)) or not look.again:
        disks.now += SETTLE
        if look:
            disks.passing.looked(look, disks.compare(look), disks.now)
    disks.passing.looked(look, None, disks.now)  # the second look too
    done = disks.to_the_end()
    assert done.drift == [("os", 1)] and done.compared == done.total


def test_a_disk_that_cannot_be_read_is_named_and_ends_the_pass_incomplete() -> None:
    disks = Disks(os=LOOK_CHUNKS, data=1)
    look = disks.passing.next(disks.now)
    assert look is not None and look.disk == "os"
    disks.passing.failed(look, "disk os cannot be read at byte 0")
    done = disks.to_the_end()
    assert done.unreadable and done.compared == 1


def test_every_order_of_writes_and_looks_finds_the_drift_and_nothing_else() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        disks = Disks(os=40, data=3)
        hidden = chance.randrange(40)
        disks.disk["os"][hidden] = -1
        pending: list[int] = []
        for _ in range(300):
            if disks.passing.ended:
                break
            match chance.randrange(4):
                case 0:
                    chunk = chance.choice([c for c in range(40) if c != hidden])
                    disks.write("os", chunk, chance.randrange(1, 99))
                    pending.append(chunk)
                case 1 if pending:
                    disks.replicate("os", pending.pop(0))
                case _:
                    disks.step()
        for chunk in pending:
            disks.replicate("os", chunk)
        assert disks.to_the_end().drift == [("os", hidden)], seed
