"""What a hostile or broken agent, and a store that refuses, may not do to a process server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from dr.errors import Refused
from dr.process_server.states import WriterState
from dr.process_server.stream import Stream
from dr.vault.batch import DiskSpec
from dr.vault.memory import MemoryBlobStore
from tests.process_server.scripted import Disks, cut_segment, stream
from tests.process_server.test_writer import Site, run, stored, until


class Refusing(MemoryBlobStore):
    """A store whose key was changed: every reading is refused, and counted."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses = False
        self.asked = 0

    def get(self, container: str, name: str) -> tuple[bytes, str]:
        self.asked += self.refuses
        if self.refuses:
            raise Refused("403 AuthenticationFailed")
        return super().get(container, name)


def test_a_store_that_refuses_at_the_start_is_named_and_not_stormed(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        store = site.store = Refusing()
        disks, before = Disks(), await site.process_server()
        await before.open_stream(stream(), 1)
        await site.died(before)
        for sequence in (1, 2):
            await before.append(1, sequence, 1, disks.segment(1, sequence, "os", [sequence]))
        store.refuses = True
        writer = await site.process_server()
        await until(lambda: writer.report().state is WriterState.REFUSED)
        await asyncio.sleep(0.3)
        assert "403" in writer.report().cause and store.asked < 10
        store.refuses = False
        await stored(writer, 2)
        assert writer.report().state is WriterState.WRITING and disks.differences(store) == []

    run(tmp_path, test)


@pytest.mark.parametrize(
    "facts",
    [
        {"cut_time": "9999-12-31T23:59:59-14:00"},
        {"cut_time": 5},
        {"facts": "abc"},
        {"frozen": {"a": 1}, "not_frozen": {"a": 1}},
        {"number": -5},
        {"freeze_ms": "soon"},
        {"frozen": ["/mnt/\udcff", "/\x1b]0;title\x07"]},
        {"kind": "application-consistent"},
        {
            "kind": "application-consistent",
            "applications": ["a"],
            "warning": {"code": "x", "message": "", "remedy": ""},
        },
        {"kind": "best-there-is"},
        {"applications": 7},
        {"applications": ["a"] * 1000},
        {"warning": "no object"},
        {"warning": {"code": "\x1b[2J", "message": "m", "remedy": "r"}},
    ],
)
def test_whatever_a_cut_says_the_stream_goes_on(tmp_path: Path, facts: dict[str, object]) -> None:
    async def test(site: Site) -> None:
        disks, writer = Disks(), await site.process_server()
        await writer.open_stream(stream(), 1)
        await writer.append(1, 1, 1, cut_segment(1, 1, **{"number": 1, **facts}))  # type: ignore[arg-type]  # hostile
        await writer.append(1, 2, 1, disks.segment(1, 2, "os", [3]))
        await stored(writer, 2)
        assert disks.differences(site.store) == []

    run(tmp_path, test)


def test_nobody_uses_up_the_numbers_of_a_stream(tmp_path: Path) -> None:
    """A stolen certificate is revoked; what was done with it must not keep the true server out for good."""

    async def test(site: Site) -> None:
        writer = await site.process_server()
        with pytest.raises(Refused) as refused:
            await writer.open_stream(stream(), (1 << 63) - 1)
        assert refused.value.code == "sequence-too-far"
        assert (await writer.open_stream(stream(), 1)).next_sequence == 1
        assert (await writer.open_stream(stream(), 1 << 31)).next_sequence == 1 << 31

    run(tmp_path, test)


def test_a_disk_that_no_blob_could_hold_claims_nothing(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        writer = await site.process_server()
        with pytest.raises(Refused) as refused:
            await writer.open_stream(Stream(1, (DiskSpec("os", 1 << 62),), {}), 1)
        assert refused.value.code == "disk-size"
        assert (await writer.open_stream(stream(), 1)).writer_epoch == 1

    run(tmp_path, test)
