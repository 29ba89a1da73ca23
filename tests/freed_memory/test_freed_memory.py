"""Buffers of segments come back without new pages; counted in page faults, which no other load changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
ROUNDS, BLOCKS, BLOCK = 20, 6, 4 << 20
WORK = f"""
import resource
for _ in range({ROUNDS}):
    blocks = [b"x" * {BLOCK} for _ in range({BLOCKS})]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def page_faults(before: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", before + WORK],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_freed_memory_is_used_again() -> None:
    one_round = BLOCKS * BLOCK // os.sysconf("SC_PAGESIZE")
    assert page_faults("") > 5 * one_round, "this C library gives memory back, so that the next line says something"
    kept = page_faults("from dr.freed_memory import keep_freed_memory\nkeep_freed_memory()")
    assert kept < 3 * one_round
