"""A cut waits until md arrays have written their own mark; sysfs is played by files."""

from __future__ import annotations

import threading
from pathlib import Path

from agent.arrays import Arrays


def test_it_waits_until_each_array_is_clean(tmp_path: Path) -> None:
    rested, busy = tmp_path / "rested", tmp_path / "busy"
    rested.write_text("clean\n")
    busy.write_text("write-pending\n")
    arrays = Arrays([str(rested), str(busy)])

    def rest() -> None:
        with busy.open("r+") as file:
            file.write("clean".ljust(len("write-pending")) + "\n")

    timer = threading.Timer(0.1, rest)
    timer.start()
    assert arrays.settle(30)
    assert busy.read_text().startswith("clean")
    timer.join()
    arrays.close()


def test_it_does_not_wait_for_ever_nor_for_an_array_that_is_gone(tmp_path: Path) -> None:
    state = tmp_path / "array_state"
    state.write_text("active\n")
    arrays = Arrays([str(state), str(tmp_path / "stopped")])
    assert not arrays.settle(0.05)
    arrays.close()
    assert Arrays([str(tmp_path / "stopped")]).settle(0)
