"""Room for digest tables: no agent takes the others' by what it says of its disks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dr.process_server.table_room import TableRoom, TablesTooLarge
from dr.vault.batch import DiskSpec
from tests.process_server.scripted import stream
from tests.process_server.test_writer import Site, run

MIB = 1 << 20
TIB = 1 << 40
NAMES = ("a", "b", "c", "d")


def test_one_takes_what_the_shares_of_the_others_leave() -> None:
    room = TableRoom(1024 * MIB)
    room.share_among(NAMES)  # 128 MiB are kept for each
    with pytest.raises(TablesTooLarge, match="take 1024 MiB of memory, 640 MiB are free"):
        room.take("a", 2 * TIB)
    room.take("a", TIB)
    with pytest.raises(TablesTooLarge, match="256 MiB are free"):
        room.take("b", TIB)
    room.take("b", TIB // 4)
    room.take("a", TIB // 2)  # in place of what it had
    with pytest.raises(TablesTooLarge):
        room.take("c", 5 * TIB // 4)
    room.share_among(("b", "c"))
    room.take("c", 5 * TIB // 4)


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(1, 4 * TIB)), max_size=20))
def test_all_together_never_take_more_and_nobody_loses_a_share(wishes: list[tuple[str, int]]) -> None:
    room, used = TableRoom(1024 * MIB), dict.fromkeys(NAMES, 0)
    room.share_among(NAMES)
    for server, size in wishes:
        needed = size // 2048
        try:
            room.take(server, size)
        except TablesTooLarge:
            assert needed > 128 * MIB - MIB
        else:
            used[server] = needed
        assert sum(used.values()) <= 1024 * MIB


def test_a_stream_that_claims_too_much_is_refused_and_the_open_one_goes_on(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        ps = await site.process_server(room=TableRoom(MIB))
        opened = await ps.open_stream(stream(), 1)
        huge = tuple(DiskSpec(f"disk{number}", 8 * TIB - MIB) for number in range(65))
        with pytest.raises(TablesTooLarge) as refused:
            await ps.open_stream(replace(stream(), disks=(*stream().disks, *huge)), 1)
        assert refused.value.code == "tables-too-large" and "dr revoke" in refused.value.remedy
        assert ps.position().writer_epoch == opened.writer_epoch
        await ps.stop()

    run(tmp_path, test)
