"""The known write of each minute: what silences the tracker without a trace is noticed, named and undone."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from agent.pulse import PULSE_SECTORS, Pulse, disks_below, write_pulse
from agent.ring import _mask
from agent.ring_format import LostTrack
from tests.agent.protected import CHUNK, MIB, LoopDisk, Protected, wait_for


def beats(pulse: Pulse, now: float, seen: int) -> None:
    pulse.beat(now, seen)
    deadline = time.monotonic() + 10
    while pulse._state.value == "writing" and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_pulse_is_judged_by_a_drain_that_came_after_it(tmp_path: Path) -> None:
    pulse = Pulse(str(tmp_path), disks_below(str(tmp_path)), 60.0)
    assert pulse.off is None
    beats(pulse, 100.0, 7)
    pulse.beat(101.0, 7)  # this drain may have been before the write was done
    with pytest.raises(LostTrack, match="did not appear"):
        pulse.beat(102.0, 7)
    beats(pulse, 160.0, 7)
    pulse.beat(161.0, 7)
    pulse.beat(162.0, 8)
    pulse.beat(163.0, 8)


def test_without_a_protected_disk_below_there_is_no_pulse_by_name(tmp_path: Path) -> None:
    pulse = Pulse(str(tmp_path), [1], 60.0)
    beats(pulse, 100.0, 0)
    assert pulse.off is not None and pulse.off.code == "no-pulse" and pulse.off.remedy
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named_and_no_loss(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    pulse = Pulse(str(tmp_path / "folder"), disks_below(str(tmp_path)), 60.0)
    (tmp_path / "folder").rmdir()
    beats(pulse, 100.0, 0)
    pulse.beat(101.0, 0)
    pulse.beat(102.0, 0)
    assert pulse.off is not None and "cannot be written" in pulse.off.message


def test_the_file_is_one_write_of_the_size_that_is_looked_for(tmp_path: Path) -> None:
    write_pulse(str(tmp_path / "pulse"))
    write_pulse(str(tmp_path / "pulse"))
    assert (tmp_path / "pulse").stat().st_size == PULSE_SECTORS * 512


def test_masks_are_words_of_32_processors() -> None:
    assert _mask([0, 1]) == "00000003"
    assert _mask(range(40)) == "000000ff,ffffffff"


def write_unseen(disk: LoopDisk) -> None:
    for chunk in range(100, 140):
        disk.write(chunk * CHUNK, os.urandom(512))


@pytest.mark.real
@pytest.mark.timeout(180)
@pytest.mark.parametrize("silencer", [("tracing_cpumask", "0"), ("set_event_pid", "1")])
@pytest.mark.parametrize("bpffs", ["/sys/fs/bpf", "/proc/self/nowhere"])
def test_a_tracker_that_is_silenced_without_a_switch_is_named(
    protected: Protected, silencer: tuple[str, str], bpffs: str
) -> None:
    disk = protected.disk("os", 64 * MIB)
    raw = protected.disk("data", 32 * MIB)
    point = protected.mount(disk)
    protected.changes |= {"cache_folder": str(point / "cache"), "pulse_seconds": 1.0, "bpffs": bpffs}
    protected.start()
    protected.wait_mode("delta")
    wait_for("a pulse", (point / "cache" / "pulse").exists)
    time.sleep(3)
    assert protected.status()["tracker"]["pulse"] == "on"
    assert "resync" not in protected.log.read_text()
    (Path("/sys/kernel/tracing/instances") / protected.instance / silencer[0]).write_text(silencer[1])
    write_unseen(raw)
    wait_for("the name of what happened", lambda: "resync: tracker-lost" in protected.log.read_text(), 60)
    protected.changes["pulse_seconds"] = 3600.0
    protected.kill()
    protected.start()
    os.sync()
    protected.wait_drained(60)
    assert [each for each in protected.differing_chunks() if each[0] == raw.name] == []  # the other is in use
    assert protected.log.read_text().count("resync: tracker-") <= 2
