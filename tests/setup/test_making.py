"""What is made once is whole or absent, whoever dies in between, and made by one process at a time."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from tools.setup.making import make_once


def test_the_second_time_makes_nothing(tmp_path: Path) -> None:
    target = tmp_path / "thing"
    assert make_once(target, tmp_path / "locks", lambda making: making.touch())
    assert not make_once(target, tmp_path / "locks", lambda making: pytest.fail("made twice"))
    assert target.exists()


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    def fail(making: Path) -> None:
        making.mkdir()
        (making / "half").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        make_once(tmp_path / "thing", tmp_path / "locks", fail)
    assert {p.name for p in tmp_path.iterdir()} == {"locks"}


def _hang(folder: str) -> None:
    def make(making: Path) -> None:
        making.mkdir()
        (making / "half").touch()
        time.sleep(600)

    make_once(Path(folder) / "thing", Path(folder) / "locks", make)


def test_a_killed_maker_is_resumed_by_the_next(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_hang, args=(str(tmp_path),))
    process.start()
    half = tmp_path / ".making-thing" / "half"
    deadline = time.monotonic() + 10
    while not half.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (tmp_path / "thing").exists()

    def make(making: Path) -> None:
        assert not making.exists()
        making.mkdir()

    assert make_once(tmp_path / "thing", tmp_path / "locks", make)
    assert list((tmp_path / "thing").iterdir()) == []


def _count(folder: str) -> None:
    def make(making: Path) -> None:
        with (Path(folder) / "made").open("a") as log:
            log.write("x")
        time.sleep(0.2)
        making.touch()

    make_once(Path(folder) / "thing", Path(folder) / "locks", make)


def test_two_at_a_time_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_count, args=(str(tmp_path),)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(20)
        assert process.exitcode == 0
    assert (tmp_path / "made").read_text() == "x"


def test_what_is_not_whole_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "thing"
    target.mkdir()
    (target / "stale").touch()

    def make(making: Path) -> None:
        assert target.exists()  # what others are using stays until its successor is whole
        making.mkdir()
        (making / "program").touch()

    assert make_once(target, tmp_path / "locks", make, lambda folder: (folder / "program").exists())
    assert [p.name for p in target.iterdir()] == ["program"]
