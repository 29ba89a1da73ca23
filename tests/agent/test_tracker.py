"""Both witnesses on real disks: what is marked, what outlives the agent, and what stands in for what."""

from __future__ import annotations

import fcntl
import os
import random
import secrets
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from agent import tracker
from agent.bpf_kernel import is_bpffs
from agent.chunk_map import CHUNK_SECTORS, DIRTY, ChunkMap, chunks_of
from agent.ring_format import LostTrack
from agent.tracker import Tracker, TrackerConfig
from tests.agent.protected import CHUNK, MIB, LoopDisk

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]


class Tracked:
    """Disks, and the tracker of a process that may be "killed"."""

    def __init__(self, folder: Path, *sizes: int) -> None:
        name = f"lifeboat-test-{secrets.token_hex(6)}"
        self.disks = [LoopDisk(folder, f"disk{number}", size) for number, size in enumerate(sizes)]
        self.devices = {device_of(disk): disk for disk in self.disks}
        disks = {device: (disk.name, Path(disk.device).name, disk.size) for device, disk in self.devices.items()}
        pins = f"/sys/fs/bpf/{name}"
        self.config = tracker.configure("/sys/kernel/tracing", name, pins, str(folder), disks, 8192)
        self.maps = {device: ChunkMap(bytearray(chunks_of(disk.size))) for device, disk in self.devices.items()}
        if not Path("/sys/kernel/tracing/instances").is_dir():
            subprocess.run(["mount", "-t", "tracefs", "nodev", "/sys/kernel/tracing"], check=True)
        self.tracker: Tracker = tracker.make(self.config)

    @property
    def pins(self) -> Path:
        return Path(self.config.marks.folder)

    def mark(self, device: int, sector: int, sectors: int) -> None:
        self.maps[device].mark(sector // CHUNK_SECTORS, (sector + sectors - 1) // CHUNK_SECTORS)

    def round(self) -> set[int]:
        """Return the chunks of the first disk that are marked now, and forget them."""
        self.tracker.round(self.mark, lambda: None)
        return self.marked()

    def marked(self, disk: int = 0) -> set[int]:
        chunks = self.maps[device_of(self.disks[disk])]
        found = {chunk for chunk in range(chunks.chunks) if chunks.state(chunk) == DIRTY}
        chunks._states[:] = bytes(chunks.chunks)
        return found

    def reopen(self, config: TrackerConfig | None = None) -> None:
        self.tracker.close()
        self.tracker = tracker.reopen(config or self.config)
        self.tracker.recover(self.mark)

    def overrun(self) -> None:
        """Make the ring too small for what is in it."""
        (Path(self.config.ring.folder) / "buffer_size_kb").write_text("8")

    def close(self) -> None:
        self.tracker.close()
        tracker.remove("/sys/kernel/tracing", self.config.ring.instance, self.config.marks.folder)
        for disk in self.disks:
            disk.close()


def device_of(disk: LoopDisk) -> int:
    number = Path(disk.device).stat().st_rdev
    return os.major(number) << 20 | os.minor(number)


@contextmanager
def tracked(folder: Path, *sizes: int) -> Iterator[Tracked]:
    watched = Tracked(folder, *sizes)
    try:
        yield watched
    finally:
        watched.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Tracked]:
    with tracked(tmp_path, 512 * MIB) as watched:
        yield watched


def write_chunks(disk: LoopDisk, count: int) -> set[int]:
    """Write to `count` chunks once, past the page cache."""
    chosen = random.Random(count).sample(range(disk.size // CHUNK), count)
    for chunk in chosen:
        disk.write(chunk * CHUNK + 512 * (chunk % 128), b"x" * 512)
    return set(chosen)


def test_the_kernel_takes_the_program_and_both_see_the_same(disk: Tracked) -> None:
    assert (disk.tracker.kind, disk.tracker.ring_only) == ("ring+maps", None)
    assert disk.round() == set()
    written = write_chunks(disk.disks[0], 300)
    assert disk.round() == written
    certificate = disk.tracker.certificate
    assert certificate is not None
    assert certificate.complete
    assert certificate.ring_events >= 300
    assert certificate.marked_events == certificate.ring_events
    assert (certificate.overrun_events, certificate.unmarked_events) == (0, 0)
    assert disk.round() == set()


def only_maps(disk: Tracked) -> set[int]:
    """Return what the maps alone have marked."""
    assert disk.tracker._marks is not None
    disk.tracker._marks.flip()
    disk.tracker._marks.merge_old(disk.mark)
    return disk.marked()


def discard(disk: LoopDisk, offset: int, length: int) -> None:
    subprocess.run(["blkdiscard", "-z", "-o", str(offset), "-l", str(length), disk.device], check=True)


def test_up_to_16_mib_exact_and_beyond_by_16_mib(tmp_path: Path) -> None:
    with tracked(tmp_path, 6 << 30) as disk:
        limit = Path(f"/sys/block/{Path(disk.disks[0].device).name}/queue/write_zeroes_max_bytes")
        assert int(limit.read_text()) > 16 * MIB, "this test needs requests of more than 16 MiB"
        discard(disk.disks[0], 3 * CHUNK + 4096, 16 * MIB)
        assert only_maps(disk) == set(range(3, 260))
        discard(disk.disks[0], 40 * MIB, 17 * MIB)
        assert only_maps(disk) == set(range(2 * 256, 4 * 256))
        assert disk.tracker._marks is not None and disk.tracker._marks.coarse == 1
        discard(disk.disks[0], 0, 6 << 30)
        assert only_maps(disk) == set(range(6 << 14))
        assert disk.tracker._marks.outside == 0


def test_several_disks_do_not_mark_each_other(tmp_path: Path) -> None:
    with tracked(tmp_path, 300 * MIB, 20 * MIB + 512, 64 * MIB) as disks:
        last = chunks_of(disks.disks[1].size) - 1
        disks.disks[1].write(last * CHUNK, b"x" * 512)
        disks.disks[2].write(7 * CHUNK, b"x" * 512)
        assert disks.tracker._marks is not None
        disks.tracker._marks.flip()
        disks.tracker._marks.merge_old(disks.mark)
        assert [disks.marked(number) for number in range(3)] == [set(), {last}, {7}]
        disks.round()
        assert [disks.marked(number) for number in range(3)] == [set(), {last}, {7}]


def test_it_records_while_no_agent_runs(disk: Tracked) -> None:
    disk.tracker.close()
    written = write_chunks(disk.disks[0], 500)
    disk.tracker = tracker.reopen(disk.config)
    disk.tracker.recover(disk.mark)
    assert disk.round() == written


def test_what_the_ring_lost_is_found_in_the_maps(disk: Tracked) -> None:
    disk.round()
    disk.overrun()
    written = write_chunks(disk.disks[0], 3000)
    disk.reopen()
    assert disk.round() == written
    certificate = disk.tracker.certificate
    assert certificate is not None and certificate.complete
    assert certificate.covered_events == certificate.overrun_events > 1000
    assert disk.round() == set()


def test_what_the_ring_lost_and_the_maps_do_not_have_is_named(disk: Tracked) -> None:
    disk.round()
    disk.overrun()
    assert disk.tracker._marks is not None
    held = disk.tracker._marks._held
    (disk.pins / "link").unlink()
    os.close(held.pop("link"))  # the program runs no more, as if the kernel skipped it
    write_chunks(disk.disks[0], 3000)
    with pytest.raises(LostTrack) as caught:
        disk.round()
    assert caught.value.code == "tracker-overrun"
    certificate = disk.tracker.certificate
    assert certificate is not None and not certificate.complete
    assert certificate.reason is not None and certificate.reason["code"] == "tracker-overrun"


def test_maps_that_are_gone_are_made_anew_and_vouch_for_nothing_before(disk: Tracked) -> None:
    disk.round()
    disk.tracker.close()
    for pin in disk.pins.iterdir():
        pin.unlink()
    written = write_chunks(disk.disks[0], 200)
    disk.tracker = tracker.reopen(disk.config)
    disk.tracker.recover(disk.mark)
    assert disk.tracker.kind == "ring+maps"
    assert disk.round() == written
    disk.tracker.close()
    subprocess.run(["rm", "-r", disk.config.marks.folder], check=True)
    disk.overrun()
    write_chunks(disk.disks[0], 3000)
    disk.tracker = tracker.reopen(disk.config)
    disk.tracker.recover(disk.mark)
    with pytest.raises(LostTrack):
        disk.round()


def test_pins_that_somebody_removed_are_pinned_again(disk: Tracked) -> None:
    names = {pin.name for pin in disk.pins.iterdir()}
    subprocess.run(["rm", "-r", disk.config.marks.folder], check=True)
    disk.tracker.check()
    assert {pin.name for pin in disk.pins.iterdir()} == names == {"control", "link", "marks", "program"}
    written = write_chunks(disk.disks[0], 50)
    disk.reopen()
    assert disk.round() == written


def test_a_pause_that_no_switch_shows_any_more_is_lost_track(disk: Tracked) -> None:
    write_chunks(disk.disks[0], 20)
    disk.round()
    switch = Path(disk.config.ring.folder) / "tracing_on"
    switch.write_text("0")
    written = write_chunks(disk.disks[0], 40)
    switch.write_text("1")
    with pytest.raises(LostTrack, match="did not record"):
        disk.round()
    disk.tracker.accept_loss()
    assert written <= disk.round()


def test_a_program_that_never_ceases_to_read_the_ring_is_noticed(disk: Tracked, tmp_path: Path) -> None:
    """It takes something between any two looks, so that what is missing is never the same number twice."""
    disk.reopen(replace(disk.config, marks=replace(disk.config.marks, folder=str(tmp_path / "nowhere" / "pins"))))
    disk.round()
    pipe = os.open(f"{disk.config.ring.folder}/trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(LostTrack, match="another program read"):
            for chunk in range(20):
                disk.disks[0].write(chunk * CHUNK, b"x" * 512)
                assert os.read(pipe, 4096)
                disk.round()
    finally:
        os.close(pipe)


def test_a_changed_filter_is_lost_track(disk: Tracked) -> None:
    disk.tracker.check()
    (Path(disk.config.ring.folder) / "events/block/block_rq_complete/filter").write_text("nr_sector > 8")
    with pytest.raises(LostTrack, match="other disks"):
        disk.tracker.check()
    disk.tracker.accept_loss()
    disk.tracker.check()


@pytest.mark.parametrize(
    ("name", "value", "what"), [("tracing_cpumask", "1", "processors"), ("set_event_pid", "1", "processes")]
)
def test_an_instance_that_records_a_part_only_is_lost_track(disk: Tracked, name: str, value: str, what: str) -> None:
    """Without maps nothing else would tell: the pulse is seen as long as its own processor and process are recorded."""
    if name == "tracing_cpumask" and len(os.sched_getaffinity(0)) < 2:
        pytest.fail("this test needs two processors")
    disk.tracker.check()
    (Path(disk.config.ring.folder) / name).write_text(value)
    with pytest.raises(LostTrack, match=f"does not record all {what}"):
        disk.tracker.check()
    with pytest.raises(LostTrack, match=f"does not record all {what}"):
        disk.reopen()
    disk.tracker = tracker.make(disk.config)
    disk.tracker.check()


def test_without_a_file_system_for_pins_the_ring_works_alone_by_name(disk: Tracked, tmp_path: Path) -> None:
    nowhere = replace(disk.config, marks=replace(disk.config.marks, folder=str(tmp_path / "nowhere" / "pins")))
    disk.reopen(nowhere)
    assert disk.tracker.kind == "ring"
    assert disk.tracker.ring_only is not None
    assert (disk.tracker.ring_only.code, bool(disk.tracker.ring_only.remedy)) == ("ring-only", True)
    written = write_chunks(disk.disks[0], 100)
    assert disk.round() == written
    certificate = disk.tracker.certificate
    assert certificate is not None and certificate.complete
    assert (certificate.marked_events, certificate.skipped_runs, certificate.unmarked_events) == (None, None, None)


def test_removed_leaves_nothing(disk: Tracked) -> None:
    assert is_bpffs("/sys/fs/bpf")
    disk.tracker.close()
    tracker.remove("/sys/kernel/tracing", disk.config.ring.instance, disk.config.marks.folder)
    assert not disk.pins.exists()
    assert not Path(disk.config.ring.folder).exists()
    with pytest.raises(LostTrack, match="gone"):
        tracker.reopen(disk.config)
    disk.tracker = tracker.make(disk.config)


class TestDiscards:
    def discard(self, disk: LoopDisk, chunks: range) -> None:
        where, length = chunks.start * CHUNK, len(chunks) * CHUNK
        subprocess.run(["blkdiscard", "-o", str(where), "-l", str(length), disk.device], check=True)

    def test_a_discard_is_marked_and_settles(self, disk: Tracked) -> None:
        self.discard(disk.disks[0], range(40, 70))
        assert disk.round() == set(range(40, 70))
        assert disk.round() == set()

    def test_what_was_queued_is_marked_until_as_much_completed(self, disk: Tracked) -> None:
        """Completions tell only the first range of a merged discard; here none is told at all."""
        disk.round()
        completed = Path(disk.config.ring.folder) / "events/block/block_rq_complete/filter"
        completed.write_text(f'({disk.config.ring.filter}) && !(rwbs ~ "D*")')
        self.discard(disk.disks[0], range(200, 230))
        only_maps(disk)  # what the maps saw
        completed.write_text(disk.config.ring.filter)
        queued = set(range(200, 230))
        marks: list[set[int]] = []
        for _ in range(3):
            disk.tracker._discards.round(disk.tracker._ring.discarded, disk.mark, 100.0)  # type: ignore[union-attr]
            marks.append(disk.marked())
        assert marks == [queued, queued, queued]
        disk.tracker._discards.round(disk.tracker._ring.discarded, disk.mark, 111.0)  # type: ignore[union-attr]
        assert disk.marked() == queued, "nothing is under way and nothing changed: the last time"
        disk.tracker._discards.round(disk.tracker._ring.discarded, disk.mark, 112.0)  # type: ignore[union-attr]
        assert disk.marked() == set()

    def test_one_lost_completion_does_not_let_everything_wait_for_ever(self, disk: Tracked) -> None:
        """Discards without end: the sums never rest, and never become equal again."""
        disk.round()
        completed = Path(disk.config.ring.folder) / "events/block/block_rq_complete/filter"
        completed.write_text(f'({disk.config.ring.filter}) && !(rwbs ~ "D*")')
        self.discard(disk.disks[0], range(200, 230))
        only_maps(disk)
        completed.write_text(disk.config.ring.filter)
        waits: list[set[int]] = []
        begun = time.monotonic()
        for minutes in range(0, 20, 2):
            self.discard(disk.disks[0], range(minutes, minutes + 1))
            disk.tracker._ring.drain(disk.mark)
            disk.marked()
            now = begun + 60 * minutes
            disk.tracker._discards.round(disk.tracker._ring.discarded, disk.mark, now)  # type: ignore[union-attr]
            waits.append(disk.marked())
        assert all(marks >= set(range(200, 230)) for marks in waits[:4]), "it may be under way"
        assert all(not marks & set(range(200, 230)) for marks in waits[-3:]), "it is over"
        assert all(minutes in marks for minutes, marks in zip(range(0, 20, 2), waits, strict=True)), "the new ones wait"
        assert all(len(marks) <= 30 + 7 for marks in waits)

    def test_a_cut_marks_what_is_queued_and_not_told_by_completions(self, disk: Tracked) -> None:
        disk.round()
        completed = Path(disk.config.ring.folder) / "events/block/block_rq_complete/filter"
        completed.write_text(f'({disk.config.ring.filter}) && !(rwbs ~ "D*")')
        self.discard(disk.disks[0], range(300, 320))
        only_maps(disk)  # what the maps saw
        for _ in range(2):
            disk.tracker.catch_up(disk.mark)
            assert disk.marked() == set(range(300, 320)), "it goes on waiting for its round"

    def test_what_waits_survives_a_kill(self, disk: Tracked) -> None:
        disk.round()
        assert disk.tracker._discards is not None
        disk.tracker._discards._pending.add(device_of(disk.disks[0]), 5 * CHUNK_SECTORS, 1)
        disk.tracker._discards._pending.settle(-8)
        disk.tracker._discards._pending.add(device_of(disk.disks[0]), 3 * CHUNK_SECTORS + 127, 2)
        disk.reopen()
        assert disk.round() == {3, 4}

    def test_queued_discards_that_were_lost_are_lost_track(self, disk: Tracked) -> None:
        disk.round()
        (Path(disk.config.queued.folder) / "buffer_size_kb").write_text("8")
        for chunk in range(0, 3000, 2):
            self.discard_fast(disk.disks[0], chunk)
        with pytest.raises(LostTrack) as caught:
            disk.round()
        assert caught.value.code == "tracker-overrun"
        disk.tracker.accept_loss()
        disk.round()

    def discard_fast(self, disk: LoopDisk, chunk: int) -> None:
        with open(disk.device, "r+b", buffering=0) as file:
            fcntl.ioctl(file, 0x1277, struct.pack("QQ", chunk * CHUNK, CHUNK))
