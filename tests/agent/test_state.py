"""What the agent remembers while it may be killed at any instant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from agent.state import Positions
from tests.agent.protected import CHECKOUT

COUNTING = """
import sys
from agent.state import Positions

positions = Positions(sys.argv[1])
positions.set("stored_sequence", 1)
print("counting", flush=True)
while True:
    positions.set("stored_sequence", 1)
    positions.set("stored_sequence", 1 << 40)
"""


def test_a_counter_is_the_old_or_the_new_one_at_every_instant(tmp_path: Path) -> None:
    path = str(tmp_path / "positions")
    command = [sys.executable, "-c", COUNTING, path]
    with subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE) as counting:
        assert counting.stdout is not None and counting.stdout.readline()
        positions = Positions(path)
        seen = {positions.get("stored_sequence") for _ in range(300_000)}
        counting.kill()
    assert seen <= {1, 1 << 40}
