"""The agent's pure core: maps and ledger under every order of events, and the parsers of what the kernel publishes."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agent.bpf_marks import Marks
from agent.chunk_map import CHUNK_SECTORS, CLEAN, DIRTY, DUE, SENT, UNREAD, ChunkMap
from agent.filesystems import FileSystem, in_freezing_order, parse_mountinfo, superblocks
from agent.ledger import Batch, Ledger
from agent.ring import Ring
from agent.ring_format import (
    EventLayout,
    LostTrack,
    PageLayout,
    TrackerUnsupported,
    check_header_event,
    events_of,
    parse_event_format,
    parse_header_page,
    parse_stats,
)
from agent.tracker import Tracker
from tests.agent.simulated_kernel import Bomb, Kernel, Killed, SimulatedMarks, SimulatedRing

CHUNKS = 6


class Replicating(RuleBasedStateMachine):
    """A disk, both witnesses, the agent's tracker, map and ledger, a slow stream, a store, and crashes between all.

    What is never allowed: a chunk that the agent holds for CLEAN, that differs in the store, and that no witness has; a
    point that is not the disk as it was at the cut; and a resync while every write that the ring lost is marked.
    """

    @initialize(fresh=st.booleans(), replicated=st.booleans())
    def begin(self, fresh: bool, replicated: bool) -> None:
        self.disk = [0 if fresh else 7] * CHUNKS
        self.store = self.disk.copy() if replicated else [0] * CHUNKS
        self.fresh = fresh
        self.states = bytearray([CLEAN if replicated else UNREAD]) * CHUNKS
        self.version = 10
        self.sequence = 0
        self.received: deque[tuple[int, dict[int, int]]] = deque()
        self.stored = 0
        self.points: list[tuple[list[int], list[int]]] = []
        self.comparable_from: int | None = None
        self.kernel = Kernel()
        self.skips_since_known = False
        self.restart_agent()

    def restart_agent(self) -> None:
        """Only the map survives kill -9."""
        self.map = ChunkMap(self.states)
        self.ledger = Ledger({"os": self.map})
        self.ledger.start_over()
        self.reading: deque[tuple[Batch, dict[int, int] | None]] = deque()
        self.comparable_from = None
        self.bomb = Bomb()
        ring, marks = SimulatedRing(self.kernel, self.bomb), SimulatedMarks(self.kernel, self.bomb)
        self.tracker = Tracker(cast("Ring", ring), cast("Marks", marks), None, None)
        self.tracker.recover(self.mark)

    def mark(self, _: int, sector: int, sectors: int) -> None:
        self.map.mark(sector // CHUNK_SECTORS, (sector + sectors - 1) // CHUNK_SECTORS)

    @rule(
        chunks=st.lists(st.integers(0, CHUNKS - 1), min_size=1, max_size=3),
        content=st.sampled_from([0, 1, None]),
        skipped=st.sampled_from([False, False, False, True]),
        fate=st.sampled_from(["waits", "drained", "overwritten"]),
    )
    def write(self, chunks: list[int], content: int | None, skipped: bool, fate: str) -> None:
        """Write zeros, what was there before perhaps (A, B, A again), or something new."""
        for chunk in chunks:
            self.version += 1
            self.disk[chunk] = self.version if content is None else content
            self.kernel.complete(chunk, skipped=skipped)
        self.skips_since_known |= skipped
        if fate == "overwritten":
            self.kernel.overrun(len(chunks))
        if fate == "drained":
            self.drain()

    @rule()
    def drain(self) -> None:
        self.track(lambda: self.tracker.drain(self.mark))

    @rule(steps=st.none() | st.integers(0, 20))
    def round(self, steps: int | None) -> None:
        """Both witnesses; the agent may be killed at any step of it."""
        self.bomb.steps = steps
        try:
            self.track(lambda: self.tracker.round(self.mark, self.map.choose))
            self.skips_since_known = False
        except Killed:
            self.kill_agent()
        self.bomb.steps = None

    def track(self, what: Callable[[], object]) -> None:
        try:
            what()
        except LostTrack:
            assert self.skips_since_known, "a resync although the maps have what the ring lost"
            self.bomb.steps = None
            self.resync()

    def resync(self) -> None:
        self.fresh = False
        self.ledger.clear()
        self.tracker.accept_loss()
        self.map.forget_all()
        self.skips_since_known = False
        self.comparable_from = None

    @rule()
    def choose(self) -> None:
        self.map.choose()

    @rule(cursor=st.integers(0, CHUNKS - 1), limit=st.integers(1, 3))
    def take(self, cursor: int, limit: int) -> None:
        state = UNREAD if self.map.any(UNREAD) and self.may_compare() else DUE
        batch, _ = self.ledger.take("os", state, cursor, limit)
        if batch is not None:
            self.reading.append((batch, None))

    @precondition(lambda self: any(content is None for _, content in self.reading))
    @rule(count=st.integers(1, 3))
    def read(self, count: int) -> None:
        """Packers read, in any moment after the taking."""
        for index, (batch, content) in enumerate(self.reading):
            if content is None and count:
                count -= 1
                self.reading[index] = (batch, self.content_of(batch))

    @precondition(lambda self: self.reading and self.reading[0][1] is not None)
    @rule()
    def send_all_that_is_read(self) -> None:
        while self.reading and self.reading[0][1] is not None:
            self.send()

    def may_compare(self) -> bool:
        """As `Replication` does it: digests count once all that was sent before the resync is stored."""
        if self.fresh:
            return True
        if self.comparable_from is None and not self.reading:
            self.comparable_from = self.received[-1][0] if self.received else self.stored
        return self.comparable_from is not None and self.stored >= self.comparable_from

    def content_of(self, batch: Batch) -> dict[int, int]:
        """What is read and sent: of an unread chunk only what the replica does not hold."""
        chunks = [first + n for first, count in batch.runs for n in range(count)]
        if batch.state == DUE:
            return {chunk: self.disk[chunk] for chunk in chunks}
        held = [0] * CHUNKS if self.fresh else self.store
        return {chunk: self.disk[chunk] for chunk in chunks if self.disk[chunk] != held[chunk]}

    @precondition(lambda self: self.reading and self.reading[0][1] is not None)
    @rule()
    def send(self) -> None:
        batch, content = self.reading.popleft()
        assert content is not None
        if not content:
            self.ledger.settle(batch)
            return
        self.sequence += 1
        self.ledger.assign(batch, self.sequence)
        self.received.append((self.sequence, content))

    @precondition(lambda self: self.received)
    @rule(acknowledged=st.booleans())
    def store_next(self, acknowledged: bool) -> None:
        sequence, content = self.received.popleft()
        self.apply(content)
        self.stored = sequence
        if acknowledged:
            self.ledger.stored(self.stored)

    def apply(self, content: dict[int, int]) -> None:
        for chunk, value in content.items():
            if chunk < 0:
                self.points.append((self.store.copy(), self.cuts[value]))
            else:
                self.store[chunk] = value

    @rule()
    def acknowledge(self) -> None:
        self.ledger.stored(self.stored)

    @rule(what=st.sampled_from(["kill", "kill", "burn", "roll back", "lose track", "lose track"]))
    def disaster(self, what: str) -> None:
        {
            "kill": self.kill_agent,
            "burn": self.burn_process_server,
            "roll back": self.roll_the_store_back,
            "lose track": self.resync,  # while older segments are still queued and on their way
        }[what]()

    def kill_agent(self) -> None:
        self.restart_agent()

    def burn_process_server(self) -> None:
        """What was received and not stored is gone; the agent opens its stream again."""
        self.received.clear()
        self.reading.clear()
        self.ledger.start_over()
        self.comparable_from = None

    def roll_the_store_back(self) -> None:
        """The store forgets everything, and its digests with it: a resync, zeros included."""
        self.store = [99] * CHUNKS
        self.received.clear()
        self.reading.clear()
        self.stored = 0
        self.resync()

    @precondition(lambda self: not self.map.any(UNREAD) and all(content is not None for _, content in self.reading))
    @rule()
    def cut(self) -> None:
        """As `agent.cut` does it: earlier readings ended, drain, read all, no mark meanwhile, cut behind it."""
        self.drain()
        if self.map.any(UNREAD):
            return  # tracking was lost: no point
        self.map.choose()
        while True:
            batch, _ = self.ledger.take("os", DUE, 0, 2)
            if batch is None:
                break
            self.reading.append((batch, self.content_of(batch)))
        while self.reading:
            self.send()
        self.sequence += 1
        self.cuts.append(self.disk.copy())
        self.received.append((self.sequence, {-1: len(self.cuts) - 1}))

    @invariant()
    def clean_is_stored(self) -> None:
        unseen = self.kernel.unseen
        for chunk in range(CHUNKS):
            if self.states[chunk] == CLEAN and chunk not in unseen:
                assert self.store[chunk] == self.disk[chunk], (chunk, self.store, self.disk)

    @invariant()
    def a_point_is_the_disk_at_its_cut(self) -> None:
        for stored, expected in self.points:
            assert stored == expected

    def teardown(self) -> None:
        """Let everything flow: the replica must become the disk, and all must be forgotten."""
        self.round(None)
        self.flow()
        self.map.choose()
        for state in (UNREAD, DUE):
            assert state == DUE or self.may_compare()
            while True:
                batch, _ = self.ledger.take("os", state, 0, CHUNKS)
                if batch is None:
                    break
                self.reading.append((batch, None))
            self.flow()
        assert self.store == self.disk
        assert set(self.states) == {CLEAN}, self.states

    def flow(self) -> None:
        while self.reading:
            batch, content = self.reading.popleft()
            self.reading.appendleft((batch, self.content_of(batch) if content is None else content))
            self.send()
        while self.received:
            self.store_next(True)
        self.ledger.stored(self.stored)

    def __init__(self) -> None:
        super().__init__()
        self.cuts: list[list[int]] = []
        self.begin(True, False)


TestReplicating = Replicating.TestCase
TestReplicating.settings = settings(max_examples=120, stateful_step_count=50, deadline=None)


def test_an_unread_chunk_is_compared_only_after_its_older_segment_is_stored() -> None:
    server = Replicating()
    server.begin(True, False)
    for cursor in (0, 3):
        server.take(cursor, 3)
    server.read(2)
    server.send_all_that_is_read()  # zeros into a fresh replica: nothing to send
    server.write([0], None, False, "drained")
    server.choose()
    server.take(0, 1)
    server.read(1)
    server.send()
    server.write([0], 0, False, "waits")  # what the store still holds, as long as the segment is not stored
    server.resync()
    server.take(0, 1)
    assert not server.reading
    server.store_next(True)
    server.take(0, 1)
    assert server.reading
    server.teardown()


def test_an_older_segment_that_is_stored_does_not_clean_a_newer_reading() -> None:
    chunks = ChunkMap(bytearray([DUE]))
    ledger = Ledger({"os": chunks})
    old, _ = ledger.take("os", DUE, 0, 1)
    assert old is not None
    ledger.assign(old, 1)
    chunks.mark(0, 0)
    chunks.choose()
    newer, _ = ledger.take("os", DUE, 0, 1)  # being packed; the change is in no segment yet
    assert newer is not None
    ledger.stored(1)
    assert chunks.state(0) == SENT
    ledger.assign(newer, 2)
    ledger.stored(2)
    assert chunks.state(0) == CLEAN


def test_a_batch_from_before_a_resync_cleans_nothing() -> None:
    chunks = ChunkMap(bytearray([DUE]))
    ledger = Ledger({"os": chunks})
    old, _ = ledger.take("os", DUE, 0, 1)
    assert old is not None
    ledger.clear()
    chunks.forget_all()
    ledger.take("os", UNREAD, 0, 1)
    ledger.assign(old, 1)
    ledger.stored(1)
    assert chunks.state(0) == SENT


def test_wide_marks_and_marks_behind_the_end() -> None:
    buffer = bytearray([CLEAN, DIRTY, SENT, UNREAD] * 600000)
    chunks = ChunkMap(buffer)
    chunks.mark(1, len(buffer) + 5)
    assert buffer[0] == CLEAN
    assert bytes(buffer[4:]) == bytes([DIRTY, DIRTY, DIRTY, UNREAD] * 599999)
    chunks.mark(len(buffer), len(buffer))
    assert chunks.count(UNREAD) == 600000


PAGE = PageLayout(4096, 8, 16)
EVENT = EventLayout(2107, 8, 16, 24, 34, 35)


def page_of(*events: bytes, flags: int = 0) -> bytes:
    data = b"".join(events)
    return (struct.pack("<QQ", 0, len(data) | flags) + data).ljust(4096, b"\xee")


def event(dev: int, sector: int, sectors: int, identity: int = 2107) -> bytes:
    data = (struct.pack("<HHIIxxxxQI6x", identity, 0, 0, dev, sector, sectors) + b"WS").ljust(48, b"\0")
    return struct.pack("<I", 12) + data


def test_pages_of_the_ring() -> None:
    stretch = struct.pack("<II", 30, 5)
    long_event = struct.pack("<II", 0, 52) + event(7, 8, 9)[4:]
    discarded = struct.pack("<II", 29 | 1 << 5, 12) + bytes(8)
    page = page_of(event(1, 2, 3), stretch, discarded, long_event, event(4, 5, 6, identity=99))
    assert events_of(page, PAGE, EVENT) == ([(1, 2, 3, ord("W")), (7, 8, 9, ord("W"))], 3, False)
    rest_unused = struct.pack("<I", 29) + bytes(60)
    assert events_of(page_of(event(1, 2, 3), rest_unused), PAGE, EVENT) == ([(1, 2, 3, ord("W"))], 1, False)
    assert events_of(page_of(event(1, 2, 3), flags=1 << 31), PAGE, EVENT)[2] is True
    assert events_of(page_of(), PAGE, EVENT) == ([], 0, False)


@pytest.mark.parametrize(
    "page",
    [
        struct.pack("<QQ", 0, 5000).ljust(4096, b"\0"),
        page_of(event(1, 2, 3)[:20]),
        page_of(struct.pack("<I", 2) + bytes([59, 8]) + bytes(6)),
    ],
)
def test_pages_that_do_not_parse_are_lost_track(page: bytes) -> None:
    with pytest.raises(LostTrack):
        events_of(page, PAGE, EVENT)


HEADER_PAGE = """\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;
\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;
\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;
\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;
"""
HEADER_EVENT = """# compressed entry header
\ttype_len    :    5 bits
\ttime_delta  :   27 bits
\tarray       :   32 bits

\tpadding     : type == 29
\ttime_extend : type == 30
\ttime_stamp : type == 31
\tdata max type_len  == 28
"""
FORMAT = """name: block_rq_complete
ID: 2107
format:
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

\tfield:dev_t dev;\toffset:8;\tsize:4;\tsigned:0;
\tfield:sector_t sector;\toffset:16;\tsize:8;\tsigned:0;
\tfield:unsigned int nr_sector;\toffset:24;\tsize:4;\tsigned:0;
\tfield:char rwbs[10];\toffset:34;\tsize:10;\tsigned:0;
"""


def test_layouts_are_taken_from_the_kernel_or_refused() -> None:
    assert parse_header_page(HEADER_PAGE) == PAGE
    assert parse_event_format(FORMAT) == EVENT
    check_header_event(HEADER_EVENT)
    with pytest.raises(TrackerUnsupported, match="64-bit"):
        parse_header_page(HEADER_PAGE.replace("offset:8;\tsize:8", "offset:8;\tsize:4"))
    with pytest.raises(TrackerUnsupported, match="sector"):
        parse_event_format(FORMAT.replace("sector_t sector", "sector_t other"))
    with pytest.raises(TrackerUnsupported, match="padding"):
        check_header_event(HEADER_EVENT.replace("29", "28"))
    text = "entries: 1\noverrun: 2\ncommit overrun: 3\nbytes: 4\ndropped events: 5\nread events: 6\n"
    assert (parse_stats(text).lost, parse_stats(text).read, parse_stats(text).all) == (10, 6, 17)
    with pytest.raises(TrackerUnsupported, match="dropped events"):
        parse_stats(text.replace("dropped", "x"))


MOUNTS = """21 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
22 21 0:5 / /dev rw shared:2 - devtmpfs udev rw
23 21 254:2 / /srv/my\\040data rw shared:3 - xfs /dev/vda2 rw
24 23 254:1 /var /srv/my\\040data/bind rw shared:1 - ext4 /dev/vda1 rw
25 21 254:3 / /mnt rw - ext4 /dev/vda3 ro,errors=remount-ro
26 21 254:4 / /boot/efi ro - vfat /dev/vda4 rw
"""


def test_each_writable_superblock_counts_once() -> None:
    found = superblocks(parse_mountinfo(MOUNTS))
    assert [mount.mount_point for mount in found] == ["/", "/dev", "/srv/my data", "/boot/efi"]


def test_upper_before_lower_and_root_last() -> None:
    systems = [FileSystem("/", "ext4", 1), FileSystem("/srv", "xfs", 1), FileSystem("/srv/a", "xfs", 1)]
    image = FileSystem("/mnt", "ext4", 3)
    order = [each.mount_point for each in in_freezing_order([*systems, image])]
    assert order == ["/mnt", "/srv/a", "/srv", "/"]
