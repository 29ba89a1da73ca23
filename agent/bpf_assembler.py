"""Assembles eBPF instructions (pure): a few mnemonics, labels, and the bytes that bpf(2) takes.

An instruction is 8 bytes: operation 1, registers 1 (destination in the low half, source in the high), jump offset 2,
immediate 4, little-endian. Offsets count instructions from the one behind the jump; a map's address takes two.

Source: Documentation/bpf/standardization/instruction-set.rst of the Linux kernel.
"""

from __future__ import annotations

import struct
from typing import Dict, List, Tuple

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = range(11)
"""R0 returns, R1 to R5 are arguments and lost in a call, R6 to R9 are kept, R10 is the end of the stack."""

LOOKUP_ELEMENT, PROCESSOR_ID = 1, 8
"""Helpers: `bpf_map_lookup_elem`, `bpf_get_smp_processor_id`."""

_LOAD = {1: 0x71, 2: 0x69, 4: 0x61, 8: 0x79}
_STORE = {1: 0x73, 2: 0x6B, 4: 0x63, 8: 0x7B}
_WITH_NUMBER = {"add": 0x07, "and": 0x57, "right": 0x77}
_WITH_REGISTER = {"add": 0x0F, "sub": 0x1F}
_JUMP_NUMBER = {"==": 0x15, "!=": 0x55, ">": 0x25, "<": 0xA5}
_JUMP_REGISTER = {"==": 0x1D, "!=": 0x5D, ">": 0x2D, ">=": 0x3D}

INSTRUCTION_BYTES = 8
_INSTRUCTION = struct.Struct("<BBhi")


class Assembler:
    """Collects instructions; `code` resolves the labels. Comparisons are unsigned."""

    def __init__(self) -> None:
        self._instructions: List[Tuple[int, int, int, int, int]] = []
        self._labels: Dict[str, int] = {}
        self._jumps: List[Tuple[int, str]] = []

    def label(self, name: str) -> None:
        """Name the next instruction; `ValueError` when the name is taken."""
        if name in self._labels:
            raise ValueError(f"the label {name} is there already")
        self._labels[name] = len(self._instructions)

    def load(self, size: int, target: int, base: int, offset: int) -> None:
        """target = the `size` bytes at base + offset, zero-extended."""
        self._add(_LOAD[size], target, base, offset)

    def store(self, size: int, base: int, offset: int, source: int) -> None:
        """The `size` bytes at base + offset = source."""
        self._add(_STORE[size], base, source, offset)

    def atomic_add(self, base: int, offset: int, source: int) -> None:
        """Add source to the 8 bytes at base + offset."""
        self._add(0xDB, base, source, offset)

    def move(self, target: int, source: int) -> None:
        """target = source."""
        self._add(0xBF, target, source)

    def number(self, target: int, value: int) -> None:
        """target = value, of 32 bits without a sign."""
        self._add(0xB4, target, immediate=value - (1 << 32) if value >= 1 << 31 else value)

    def wide_number(self, target: int, value: int) -> None:
        """target = value, of 64 bits without a sign."""
        self._pair(target, 0, value)

    def calculate(self, operation: str, target: int, value: int) -> None:
        """Add, mask (`and`) or shift `right` the target by a number."""
        self._add(_WITH_NUMBER[operation], target, immediate=value)

    def combine(self, operation: str, target: int, source: int) -> None:
        """Add the source to the target, or subtract it."""
        self._add(_WITH_REGISTER[operation], target, source)

    def jump(self, label: str) -> None:
        """Go on at the label."""
        self._jump(0x05, label)

    def jump_if(self, register: int, comparison: str, value: int, label: str) -> None:
        """Go on at the label if the register compares so to a number."""
        self._jump(_JUMP_NUMBER[comparison], label, register, immediate=value)

    def jump_if_register(self, register: int, comparison: str, other: int, label: str) -> None:
        """Go on at the label if the register compares so to the other one."""
        self._jump(_JUMP_REGISTER[comparison], label, register, other)

    def map_address(self, target: int, descriptor: int) -> None:
        """target = the map behind a file descriptor of this process."""
        self._pair(target, 1, descriptor)

    def call(self, helper: int) -> None:
        """R0 = the helper's answer to R1 to R5."""
        self._add(0x85, immediate=helper)

    def exit(self) -> None:
        """End the program; R0 is what it returns."""
        self._add(0x95)

    @property
    def code(self) -> bytes:
        """Return the program; `KeyError` names a label that is not there."""
        instructions = list(self._instructions)
        for at, label in self._jumps:
            operation, target, source, _, immediate = instructions[at]
            instructions[at] = (operation, target, source, self._labels[label] - at - 1, immediate)
        return b"".join(
            _INSTRUCTION.pack(operation, target | source << 4, offset, immediate)
            for operation, target, source, offset, immediate in instructions
        )

    def _add(self, operation: int, target: int = 0, source: int = 0, offset: int = 0, immediate: int = 0) -> None:
        self._instructions.append((operation, target, source, offset, immediate))

    def _pair(self, target: int, source: int, value: int) -> None:
        low, high = struct.unpack("<ii", struct.pack("<Q", value))
        self._add(0x18, target, source, 0, low)
        self._add(0, immediate=high)

    def _jump(self, operation: int, label: str, target: int = 0, source: int = 0, immediate: int = 0) -> None:
        self._jumps.append((len(self._instructions), label))
        self._add(operation, target, source, 0, immediate)
