"""The assembler's bytes, and the tracking program's layout."""

from __future__ import annotations

import pytest

from agent.bpf_assembler import LOOKUP_ELEMENT, R0, R1, R2, R3, R6, R10, Assembler
from agent.bpf_program import PAGE_BYTES, Area, plan, program
from agent.ring_format import EventLayout

EVENT = EventLayout(2107, 8, 16, 24, 34, 35)


def test_each_instruction_is_what_the_kernel_documents() -> None:
    a = Assembler()
    a.move(R6, R1)
    a.load(4, R1, R6, 8)
    a.number(R2, 0xFE00000)
    a.number(R2, 0xFFFFFFFF)
    a.jump_if_register(R1, "!=", R2, "out")
    a.wide_number(R3, 0x1122334455667788)
    a.store(1, R10, -4, R1)
    a.map_address(R1, 7)
    a.call(LOOKUP_ELEMENT)
    a.atomic_add(R0, 16, R1)
    a.calculate("add", R2, -4)
    a.label("out")
    a.exit()
    expected = """
        bf16000000000000  6161080000000000  b40200000000e00f  b4020000ffffffff  5d21080000000000
        1803000088776655  0000000044332211  731afcff00000000  1811000007000000  0000000000000000
        8500000001000000  db10100000000000  07020000fcffffff  9500000000000000
    """
    assert a.code == bytes.fromhex("".join(expected.split()))


def test_labels_are_named_once_and_must_be_there() -> None:
    a = Assembler()
    a.jump("nowhere")
    with pytest.raises(KeyError, match="nowhere"):
        assert a.code
    a.label("nowhere")
    with pytest.raises(ValueError, match="nowhere"):
        a.label("nowhere")


def test_a_jump_back_counts_from_the_next_instruction() -> None:
    a = Assembler()
    a.label("again")
    a.jump("again")
    assert a.code.hex() == "0500ffff00000000"


def test_disks_lie_side_by_side_on_pages_of_their_own() -> None:
    layout = plan([(9, 5000), (8, 1)])
    assert layout.areas == (Area(8, 1, 0, 4096), Area(9, 5000, 8192, 16384))
    assert layout.buffer_bytes == 5 * PAGE_BYTES
    assert [area.coarse_areas for area in layout.areas] == [1, 20]


def test_the_signature_tells_disks_and_programs_apart() -> None:
    found = {plan(disks).signature for disks in ([(8, 1)], [(8, 2)], [(9, 1)], [(8, 1), (9, 1)])}
    assert len(found) == 4
    assert plan([(9, 1), (8, 1)]).signature == plan([(8, 1), (9, 1)]).signature


def test_the_program_grows_with_the_number_of_disks_only() -> None:
    one, many = (
        program(plan([(n, size) for n in range(disks)]), EVENT, 3, 4) for disks, size in ((1, 1), (16, 1 << 28))
    )
    assert len(many) - len(one) == 15 * 9 * 8
