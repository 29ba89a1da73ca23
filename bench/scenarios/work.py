"""What scenarios share: where they work, how big, and the cost of one contender's work, of ours or of a peer."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.disk import LoopDisk
from bench.network import free_port, wire_bytes
from bench.ours import Replicating
from bench.peers.peer import Peer, Place
from bench.sizes import Size
from bench.usage import Cost, Memory, cpu_seconds_of_ended, peak_memory_bytes

OURS = "lifeboat"


@dataclass(frozen=True, slots=True)
class Work:
    """A folder of the run, its size, how many processors there are, and where it says what it does."""

    folder: Path
    size: Size
    cores: int
    say: Callable[[str], None]


def cost_of_ours(ours: Replicating, seconds_allowed: float, begin: Callable[[], float], cpu_before: float) -> Cost:
    """Return what a piece of our own work cost.

    `begin` starts it and returns the moment that counts as its beginning. Seconds go to the moment at which all of it
    is `received`; processor time and bytes to where it is stored as well.
    """
    wire = wire_bytes()
    begun = begin()
    received, _ = ours.wait_until_stored(seconds_allowed)
    cpu, sent = ours.cpu_seconds - cpu_before, wire_bytes() - wire
    ours.require_equal()
    memory = ours.agent.memory_bytes, peak_memory_bytes(ours.site.process.pid)
    return Cost(received - begun, cpu, sent, *memory)


def cost_of_peer(peer: Peer, place: Place) -> Cost:
    """Return what a peer's work cost, its listener included."""
    cpu, wire = cpu_seconds_of_ended(), wire_bytes()
    with (
        peer.listening(place) as listener,
        Memory(lambda: [listener.pid]) as theirs,
        Memory(lambda: _children_but(listener.pid)) as called,
    ):
        begun = time.monotonic()
        peer.copy(place)
        seconds = time.monotonic() - begun
    sides = (theirs, called) if peer.listens_at_source else (called, theirs)
    memory = [side.peak_bytes for side in sides]
    return Cost(seconds, cpu_seconds_of_ended() - cpu, wire_bytes() - wire, *memory)


def place_of(peer: Peer, disk: LoopDisk, folder: Path) -> Place:
    """Return where a peer works: a folder of its own."""
    own = folder / "".join(letter for letter in peer.name if letter.isalnum())
    own.mkdir(exist_ok=True)
    keys = own / "keys"
    keys.mkdir(exist_ok=True)
    return Place(disk.device, disk.image, own / "target", keys, free_port())


def medians(costs: Mapping[str, Sequence[Cost]], of: Callable[[Cost], float]) -> dict[str, float]:
    """Return the median of a figure for each contender."""
    return {name: statistics.median(of(cost) for cost in each) for name, each in costs.items()}


def split(figures: Mapping[str, float]) -> tuple[float, dict[str, float]]:
    """Return our figure, and the peers'."""
    return figures[OURS], {name: value for name, value in figures.items() if name != OURS}


def rotated(names: Sequence[str], turn: int) -> list[str]:
    """Return the contenders in another order each turn, so that none always runs first."""
    start = turn % len(names)
    return [*names[start:], *names[:start]]


def _children_but(listener: int) -> list[int]:
    return [child.pid for child in psutil.Process(os.getpid()).children() if child.pid != listener]
