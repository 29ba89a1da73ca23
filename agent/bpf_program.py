"""The program of the second witness (pure): marks the chunks of a completed write in one of two buffers.

    dev ours? -> not a read, not empty? -> control word: which buffer -> up to 16 MiB: a byte for each chunk
                                                                      -> more:         a byte for each 16 MiB
    -> count the event for this CPU

Two maps, both arrays that user space maps:

    control   64 bytes an entry; 0: buffer in use 4, reserved 4, signature 8; from 1 one for each CPU:
              events 8, coarse 8, outside 8
    marks     pages of 4096 bytes; buffer 0, then buffer 1, each: every disk's chunks, then every disk's 16 MiB areas,
              each disk from a page of its own

Rules kept here:
- An event is counted only after all of it is marked: whoever finds as many events here as in the ring knows that the
  marks are complete.
- What is told apart is only the read: the letters of all else differ by kernel, and marking too much harms nothing.
- The program returns 1, or other users of the tracepoint would lose the event.
- Loops have bounds that the kernel's verifier can see; what does not fit is counted as `outside`, never dropped.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import List, Tuple

from agent.bpf_assembler import (
    LOOKUP_ELEMENT,
    PROCESSOR_ID,
    R0,
    R1,
    R2,
    R3,
    R6,
    R7,
    R8,
    R9,
    R10,
    Assembler,
)
from agent.ring_format import EventLayout

PAGE_BYTES = 4096
CONTROL_BYTES = 64
IN_USE, SIGNATURE = 0, 8
EVENTS, COARSE, OUTSIDE = 0, 8, 16

_CHUNK_SHIFT = 7  # sectors to chunks of 64 KiB
COARSE_CHUNKS = 256  # 16 MiB
_COARSE_SHIFT = 8  # chunks to areas of 16 MiB
_MAX_EXACT = COARSE_CHUNKS + 1  # 16 MiB that do not start at a chunk's border
_MAX_COARSE = 258  # an event's length has 32 bits of bytes: less than 4 GiB, and its borders

_KEY, _COARSE_AT = -4, -16


@dataclass(frozen=True)
class Area:
    """Where the marks of one disk lie in a buffer (bytes): `exact` for chunks, `coarse` for 16 MiB areas."""

    device: int
    chunks: int
    exact: int
    coarse: int

    @property
    def coarse_areas(self) -> int:
        """Return how many 16 MiB areas the disk has."""
        return -(-self.chunks // COARSE_CHUNKS)


@dataclass(frozen=True)
class Plan:
    """Where everything lies: the disks' areas, and what one buffer takes (bytes)."""

    areas: Tuple[Area, ...]
    buffer_bytes: int

    @property
    def signature(self) -> bytes:
        """Return 8 bytes that differ when disks, layout or program differ."""
        code = program(self, EventLayout(0, 0, 0, 0, 0, 0), 0, 0)
        return hashlib.blake2b(repr(self).encode() + code, digest_size=8).digest()


def plan(disks: "List[Tuple[int, int]]") -> Plan:
    """Lay out the disks, given as (kernel device, chunks)."""
    areas: List[Area] = []
    position = 0
    for device, chunks in sorted(disks):
        exact, coarse = position, position + _pages(chunks)
        areas.append(Area(device, chunks, exact, coarse))
        position = coarse + _pages(areas[-1].coarse_areas)
    return Plan(tuple(areas), position)


def program(layout: Plan, event: EventLayout, control: int, marks: int) -> bytes:
    """Return the program for the maps behind the descriptors `control` and `marks`."""
    a = Assembler()
    a.move(R6, R1)
    _choose_disk(a, layout, event)
    a.load(1, R3, R6, event.rwbs)
    a.jump_if(R3, "==", ord("R"), "out")
    a.load(4, R8, R6, event.nr_sector)
    a.jump_if(R8, "==", 0, "out")
    a.load(8, R7, R6, event.sector)
    a.combine("add", R8, R7)
    a.calculate("add", R8, -1)
    a.calculate("right", R7, _CHUNK_SHIFT)
    a.calculate("right", R8, _CHUNK_SHIFT)
    a.load(8, R1, R10, _COARSE_AT - 8)  # chunks of the disk
    a.jump_if_register(R8, ">=", R1, "outside")
    _choose_buffer(a, layout, control)
    a.move(R1, R8)
    a.combine("sub", R1, R7)
    a.jump_if(R1, ">", _MAX_EXACT - 1, "coarse")
    _mark(a, "exact", marks, _MAX_EXACT)
    a.label("coarse")
    a.calculate("right", R7, _COARSE_SHIFT)
    a.calculate("right", R8, _COARSE_SHIFT)
    a.load(8, R1, R10, _COARSE_AT)
    a.combine("add", R9, R1)
    _mark(a, "areas", marks, _MAX_COARSE, counted=COARSE, control=control)
    a.label("outside")
    _count(a, control, OUTSIDE)
    a.jump("out")
    a.label("marked")
    _count(a, control, EVENTS)
    a.label("out")
    a.number(R0, 1)
    a.exit()
    return a.code


def _choose_disk(a: Assembler, layout: Plan, event: EventLayout) -> None:
    """R9 = the disk's exact area; on the stack: the way from there to the coarse one, and the number of chunks."""
    a.load(4, R1, R6, event.dev)
    for number, area in enumerate(layout.areas):
        a.number(R2, area.device)
        a.jump_if_register(R1, "!=", R2, f"not {number}")
        a.wide_number(R9, area.exact)
        a.wide_number(R2, area.coarse - area.exact)
        a.wide_number(R3, area.chunks)
        a.jump("found")
        a.label(f"not {number}")
    a.jump("out")
    a.label("found")
    a.store(8, R10, _COARSE_AT, R2)
    a.store(8, R10, _COARSE_AT - 8, R3)


def _choose_buffer(a: Assembler, layout: Plan, control: int) -> None:
    a.number(R1, 0)
    a.store(4, R10, _KEY, R1)
    _look_up(a, control)
    a.jump_if(R0, "==", 0, "out")
    a.load(4, R1, R0, IN_USE)
    a.jump_if(R1, "==", 0, "first buffer")
    a.wide_number(R1, layout.buffer_bytes)
    a.combine("add", R9, R1)
    a.label("first buffer")


def _mark(a: Assembler, name: str, marks: int, limit: int, *, counted: int = -1, control: int = -1) -> None:
    """Set the bytes R7 to R8 of the area at R9; ends at `marked` or `outside`."""
    if counted >= 0:
        _count(a, control, counted)
    a.number(R6, 0)
    a.label(name)
    a.move(R1, R9)
    a.combine("add", R1, R7)
    a.calculate("right", R1, 12)
    a.store(4, R10, _KEY, R1)
    _look_up(a, marks)
    a.jump_if(R0, "==", 0, "outside")
    a.move(R1, R9)
    a.combine("add", R1, R7)
    a.calculate("and", R1, PAGE_BYTES - 1)
    a.combine("add", R0, R1)
    a.number(R1, 1)
    a.store(1, R0, 0, R1)
    a.jump_if_register(R7, ">=", R8, "marked")
    a.calculate("add", R7, 1)
    a.calculate("add", R6, 1)
    a.jump_if(R6, "<", limit, name)
    a.jump("outside")


def _count(a: Assembler, control: int, offset: int) -> None:
    skip = f"no counter {offset}"
    a.call(PROCESSOR_ID)
    a.calculate("add", R0, 1)
    a.store(4, R10, _KEY, R0)
    _look_up(a, control)
    a.jump_if(R0, "==", 0, skip)
    a.number(R1, 1)
    a.atomic_add(R0, offset, R1)
    a.label(skip)


def _look_up(a: Assembler, descriptor: int) -> None:
    """R0 = the address of the map's element whose number is on the stack, or 0."""
    a.move(R2, R10)
    a.calculate("add", R2, _KEY)
    a.map_address(R1, descriptor)
    a.call(LOOKUP_ELEMENT)


def _pages(length: int) -> int:
    return -(-length // PAGE_BYTES) * PAGE_BYTES
