"""The writer against the store in memory: order, acknowledgements, faults, takeover, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dr.chunk import UNKNOWN, ZERO, digest
from dr.compile import names
from dr.errors import Conflict, LifeboatError, Refused, Unreachable
from dr.process_server import writer as writers
from dr.process_server.spool import Spool
from dr.process_server.states import WriterState
from dr.process_server.table_room import TableRoom
from dr.process_server.vault_side import VaultSide, instance_name
from dr.process_server.writer import ServerWriter
from dr.vault.memory import MemoryBlobStore
from tests.process_server.scripted import CHUNKS, SERVER, Disks, cut_segment, stream

KEY = bytes(32)


class Site:
    """Process servers over one store; `died` forgets a process without letting it tidy up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = MemoryBlobStore()
        self.threads = ThreadPoolExecutor(2)

    async def process_server(
        self, name: str = "ps1", limit: int = 1 << 30, room: TableRoom | None = None
    ) -> ServerWriter:
        folder = self.folder / name
        vault = VaultSide(lambda: self.store, "hq", instance_name(name, folder))
        writer = ServerWriter(SERVER, Spool(folder, KEY, limit), vault, self.threads, room or TableRoom())
        await writer.start()
        return writer

    @staticmethod
    async def died(writer: ServerWriter) -> None:
        assert writer._task is not None
        writer._task.cancel()
        await asyncio.wait([writer._task])

    def points(self) -> list[str]:
        return list(self.store.list(names.MANIFESTS, f"{SERVER}/"))


def run(folder: Path, test: Callable[[Site], Awaitable[None]]) -> None:
    async def inner() -> None:
        async with asyncio.timeout(30):
            await test(Site(folder))

    asyncio.run(inner())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is awaited lives in several objects and the store
        await asyncio.sleep(0.005)


async def stored(writer: ServerWriter, sequence: int) -> None:
    await until(lambda: writer.report().stored >= sequence)


def code_of(error: pytest.ExceptionInfo[LifeboatError]) -> str:
    return error.value.code


def test_received_is_stored_in_order_and_cut(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        disks = Disks()
        ps = await site.process_server()
        opened = await ps.open_stream(stream(), 1)
        assert (opened.writer_epoch, opened.next_sequence, opened.stored_sequence) == (1, 1, 0)
        for sequence in range(1, 9):
            segment = disks.segment(1, sequence, "os" if sequence % 2 else "data", [sequence, sequence + 1])
            assert (await ps.append(1, sequence, 1, segment)).received == sequence
        await ps.append(1, 9, 1, cut_segment(1, 9, 1))
        position = await ps.wait_stored(8, 20)
        assert position.stored == 9 and position.last_point == "shop1-1-1" and not position.store_went_back
        assert disks.differences(site.store) == [] and len(site.points()) == 1
        await until(lambda: ps.report().spool_bytes == 0)
        again = await ps.open_stream(stream(), 5)
        assert (again.writer_epoch, again.next_sequence, again.replica_sequence) == (1, 10, 9)
        await ps.stop()

    run(tmp_path, test)


def test_wrong_order_epoch_and_header_are_refused_and_a_lost_answer_is_not(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        disks = Disks()
        ps = await site.process_server()
        with pytest.raises(Conflict) as closed:
            await ps.append(1, 1, 1, disks.segment(1, 1, "os", [0]))
        await ps.open_stream(stream(2), 1)
        first = disks.segment(2, 1, "os", [0])
        with pytest.raises(Conflict) as gap:
            await ps.append(2, 2, 1, disks.segment(2, 2, "os", [0]))
        with pytest.raises(Conflict) as mismatch:
            await ps.append(2, 1, 1, disks.segment(2, 7, "os", [0]))
        with pytest.raises(Refused) as fenced:
            await ps.append(1, 1, 1, disks.segment(1, 1, "os", [0]))
        with pytest.raises(Conflict) as epoch:
            await ps.append(2, 1, 9, first)
        with pytest.raises(Refused) as outside:
            await ps.append(2, 1, 1, Disks().segment(2, 1, "os", [16]))
        with pytest.raises(Refused) as reopened:
            await ps.open_stream(stream(1), 1)
        codes = [code_of(e) for e in (closed, gap, mismatch, fenced, epoch, outside, reopened)]
        assert codes == [
            "writer-changed", "sequence-gap", "header-mismatch", "fenced", "writer-changed", "out-of-range", "fenced",
        ]  # fmt: skip
        assert (await ps.append(2, 1, 1, first)).received == 1
        assert (await ps.append(2, 1, 1, first)).received == 1
        with pytest.raises(Conflict):
            await ps.append(2, 1, 1, Disks().segment(2, 1, "os", [3]))
        await ps.stop()

    run(tmp_path, test)


def test_plain_cuts_are_folded_when_the_writer_is_behind_and_no_others(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        disks = Disks()
        ps = await site.process_server()
        await ps.open_stream(stream(), 1)
        site.store.script("D")
        sequence = 1
        warned: dict[str, object] = {
            "warning": {"code": "application-failed", "message": "exit code 1", "remedy": "see"}
        }
        asked: dict[str, object] = {"kind": "application-consistent", "applications": ["shop-db"]}
        kinds: list[dict[str, object]] = [{}, {"requested": "0a1b"}, {}, asked, {}, warned, {}, {}]
        for number, kind in enumerate(kinds, 1):
            await ps.append(1, sequence, 1, disks.segment(1, sequence, "os", [number]))
            cut = cut_segment(1, sequence + 1, number, **kind)  # type: ignore[arg-type]  # as JSON has it
            await ps.append(1, sequence + 1, 1, cut)
            sequence += 2
        await until(lambda: ps.report().state is WriterState.STORE_UNAVAILABLE)
        site.store.heal()
        await stored(ps, 16)
        numbers = [int(name.rsplit("-", 1)[1].split(".")[0]) for name in site.points()]
        assert {2, 4, 6, 8} <= set(numbers) <= {1, 2, 4, 6, 8}
        assert ps.report().folded_cuts == 8 - len(numbers) >= 1
        assert disks.differences(site.store) == [] and ps.report().state is WriterState.WRITING
        await ps.stop()

    run(tmp_path, test)


@pytest.mark.thorough
def test_every_single_failing_call_is_tried_again_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "FIRST_RETRY_SECONDS", 0.01)

    async def one(site: Site, script: str) -> None:
        disks = Disks()
        ps = await site.process_server()
        await ps.open_stream(stream(), 1)
        site.store.script(script)
        for sequence in range(1, 6):
            await ps.append(1, sequence, 1, disks.segment(1, sequence, "os", [sequence % 3]))
        await ps.append(1, 6, 1, cut_segment(1, 6, 1, requested="r1"))
        await stored(ps, 6)
        assert disks.differences(site.store) == [], script
        assert ps.report().last_point == "shop1-1-1" and len(site.points()) == 1, script
        await ps.stop()

    async def test(site: Site) -> None:
        for letter in "EA":
            sites = [Site(tmp_path / f"{letter}{place}") for place in range(14)]
            await asyncio.gather(*(one(each, "." * place + letter) for place, each in enumerate(sites)))

    run(tmp_path, test)


def test_killed_with_a_full_spool_everything_received_is_stored_by_the_next_process(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        disks = Disks()
        ps = await site.process_server()
        await ps.open_stream(stream(), 1)
        for sequence in range(1, 4):
            await ps.append(1, sequence, 1, disks.segment(1, sequence, "os", [sequence]))
        await stored(ps, 3)
        site.store.script("D")
        for sequence in range(4, 9):
            await ps.append(1, sequence, 1, disks.segment(1, sequence, "data", [sequence]))
        await ps.append(1, 9, 1, cut_segment(1, 9, 1))
        await site.died(ps)
        site.store.heal()
        second = await site.process_server()
        await stored(second, 9)  # no agent asked: the server may have burned
        assert disks.differences(site.store) == [] and len(site.points()) == 1
        with pytest.raises(Conflict) as old:
            await second.append(1, 10, 1, disks.segment(1, 10, "os", [0]))
        assert code_of(old) == "writer-changed"
        opened = await second.open_stream(stream(), 4)
        assert opened.next_sequence == 10 and opened.stored_sequence == 9 and opened.writer_epoch == 2
        await second.stop()

    run(tmp_path, test)


def test_the_cut_off_process_server_that_comes_back_changes_nothing(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        first, second = await site.process_server("ps1"), await site.process_server("ps2")
        old, new = Disks(), Disks()
        await first.open_stream(stream(), 1)
        await first.append(1, 1, 1, old.segment(1, 1, "os", [0, 1, 2]))
        await stored(first, 1)
        site.store.script("D")
        await first.append(1, 2, 1, old.segment(1, 2, "os", [0, 1, 2]))
        await first.append(1, 3, 1, cut_segment(1, 3, 7, requested="r1"))
        await until(lambda: first.report().state is WriterState.STORE_UNAVAILABLE)
        await site.died(first)
        site.store.heal()
        opened = await second.open_stream(stream(), 4)
        assert (opened.writer_epoch, opened.next_sequence, opened.replica_sequence) == (2, 4, 1)
        await second.append(1, 4, 2, new.segment(1, 4, "os", [0, 1, 2]))
        await stored(second, 4)
        before = site.store.save()
        back = await site.process_server("ps1")
        await until(lambda: back.report().state is WriterState.WRITER_CHANGED)
        assert back.report().spool_bytes == 0 and "ps2" in back.report().cause
        assert {k: bytes(b.data) for k, b in site.store.save().items()} == {k: bytes(b.data) for k, b in before.items()}
        assert new.differences(site.store) == [] and site.points() == []
        await second.append(1, 5, 2, new.segment(1, 5, "os", [5]))
        await stored(second, 5)
        await back.stop()
        await second.stop()

    run(tmp_path, test)


def test_a_living_writer_that_lost_the_lease_stops_and_its_spool_is_void(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        first, second = await site.process_server("ps1"), await site.process_server("ps2")
        old, new = Disks(), Disks()
        await first.open_stream(stream(), 1)
        await second.open_stream(stream(), 1)
        await second.append(1, 1, 2, new.segment(1, 1, "os", [1]))
        await stored(second, 1)
        await first.append(1, 1, 1, old.segment(1, 1, "os", [1]))
        await until(lambda: first.report().state is WriterState.WRITER_CHANGED)
        with pytest.raises(Conflict) as error:
            first.position()
        assert code_of(error) == "writer-changed" and first.report().spool_bytes == 0
        assert new.differences(site.store) == []
        reopened = await first.open_stream(stream(), 2)
        assert reopened.writer_epoch == 3 and reopened.replica_sequence == 1
        await first.stop()
        await second.stop()

    run(tmp_path, test)


async def forgotten_at_the_store(site: Site, ps: ServerWriter) -> Disks:
    """Have two segments stored, and the store forget the second; return the agent that sent them."""
    disks = Disks()
    await ps.open_stream(stream(), 1)
    await ps.append(1, 1, 1, disks.segment(1, 1, "os", [1]))
    await stored(ps, 1)
    earlier = site.store.save()
    await ps.append(1, 2, 1, disks.segment(1, 2, "os", [2]))
    await stored(ps, 2)
    site.store.rollback(earlier)
    return disks


def test_a_store_that_went_back_is_told_and_ends_when_the_agent_opens_again(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        ps = await site.process_server()
        disks = await forgotten_at_the_store(site, ps)
        await ps.append(1, 3, 1, disks.segment(1, 3, "os", [3]))
        await until(lambda: ps.report().state is WriterState.STORE_WENT_BACK)
        position = await ps.wait_stored(2, 20)
        assert position.store_went_back and ps.report().remedy and ps.report().spool_bytes == 0
        opened = await ps.open_stream(stream(), 4)
        assert opened.replica_sequence == 1 and opened.next_sequence == 4
        assert not ps.position().store_went_back
        await ps.stop()

    run(tmp_path, test)


def test_a_store_that_forgot_what_no_agent_was_told_is_told_until_the_agent_sends(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        ps = await site.process_server()
        disks = await forgotten_at_the_store(site, ps)  # and the agent never asked how far it was
        opened = await ps.open_stream(stream(), 3, told_stored=1)
        assert opened.store_went_back and opened.replica_sequence == 1
        await site.died(ps)  # and the answer with it
        ps = await site.process_server()
        opened = await ps.open_stream(stream(), 3, told_stored=1)
        assert opened.store_went_back
        await ps.append(1, 3, opened.writer_epoch, disks.segment(1, 3, "os", [3]))
        await stored(ps, 3)
        assert not (await ps.open_stream(stream(), 4, told_stored=3)).store_went_back
        await ps.stop()

    run(tmp_path, test)


def test_digests_are_of_what_was_asked_for_or_refused_by_name(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        ps = await site.process_server()
        disks = Disks()
        await ps.open_stream(stream(), 1)
        await ps.append(1, 1, 1, disks.segment(1, 1, "os", [1, 3]))
        await stored(ps, 1)
        held = digest(disks.expected["os", 1]) + ZERO + digest(disks.expected["os", 3])
        assert await ps.digests("os", 1, 3, writer_epoch=1, stored=1) == held
        assert await ps.digests("os", CHUNKS - 1, 5, writer_epoch=1, stored=0) == ZERO
        with pytest.raises(Refused) as refused:
            await ps.digests("other", 0, 1, writer_epoch=1, stored=1)
        assert code_of(refused) == "unknown-disk"
        for epoch, position, code in ((2, 1, "writer-changed"), (1, 2, "not-yet-stored")):
            with pytest.raises(Conflict) as conflict:
                await ps.digests("os", 0, 1, writer_epoch=epoch, stored=position)
            assert code_of(conflict) == code
        await ps.stop()

    run(tmp_path, test)


def test_an_agent_that_was_told_more_than_is_stored_makes_all_digests_unknown(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        ps = await site.process_server()
        await ps.open_stream(stream(), 1)
        await ps.append(1, 1, 1, Disks().segment(1, 1, "os", [1]))
        await stored(ps, 1)
        await ps.open_stream(stream(), 2, told_stored=1)
        assert UNKNOWN not in await ps.digests("os", 0, CHUNKS, writer_epoch=1, stored=1)
        site.store.script("oD")
        with pytest.raises(Unreachable):
            await ps.open_stream(stream(), 2, told_stored=2)
        site.store.heal()
        opened = await ps.open_stream(stream(), 2, told_stored=2)
        found = await ps.digests("os", 0, CHUNKS, writer_epoch=opened.writer_epoch, stored=1)
        assert found == UNKNOWN * CHUNKS
        await ps.stop()

    run(tmp_path, test)


def test_a_full_spool_holds_the_agent_back_and_names_the_store_when_that_is_the_reason(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        ps = await site.process_server(limit=200_000)
        disks = Disks()
        await ps.open_stream(stream(), 1)
        site.store.script("D")
        await ps.append(1, 1, 1, disks.segment(1, 1, "os", [1]))
        await until(lambda: ps.report().state is WriterState.STORE_UNAVAILABLE)
        await ps.append(1, 2, 1, disks.segment(1, 2, "os", [2]))
        with pytest.raises(LifeboatError) as full:
            for sequence in (3, 4):
                await ps.append(1, sequence, 1, disks.segment(1, sequence, "os", [sequence]))
        assert code_of(full) == "store-unavailable" and full.value.http_status == 503 and ps.report().spool_full
        await ps.stop()

    run(tmp_path, test)


def test_a_damaged_spool_is_named_and_only_whole_segments_are_stored(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        ps = await site.process_server()
        kept = Disks()
        await ps.open_stream(stream(), 1)
        site.store.script("D")
        await ps.append(1, 1, 1, kept.segment(1, 1, "os", [1]))
        await ps.append(1, 2, 1, Disks().segment(1, 2, "os", [2]))
        await site.died(ps)
        site.store.heal()
        file = tmp_path / "ps1" / SERVER / "1" / f"{2:020d}"
        spooled = file.read_bytes()
        file.write_bytes(spooled[:-1] + bytes([spooled[-1] ^ 1]))
        again = await site.process_server()
        await until(lambda: again.report().state is WriterState.SPOOL_CORRUPT)
        assert again.report().remedy and again.report().stored == 1
        assert kept.differences(site.store) == []
        await again.stop()

    run(tmp_path, test)


def test_a_cut_that_cannot_become_a_point_is_skipped_by_name(tmp_path: Path) -> None:
    async def test(site: Site) -> None:
        ps = await site.process_server()
        disks = Disks()
        await ps.open_stream(stream(), 1)
        await ps.append(1, 1, 1, cut_segment(1, 1, 1, requested="r1"))
        await ps.append(1, 2, 1, cut_segment(1, 2, 1, requested="r1"))
        await ps.append(1, 3, 1, disks.segment(1, 3, "os", [1]))
        await stored(ps, 3)
        skipped = ps.report().skipped_point
        assert skipped is not None and (skipped.number, skipped.code) == (1, "point-exists")
        await ps.stop()

    run(tmp_path, test)


def test_a_point_of_another_instant_is_not_taken_for_that_of_a_cut(tmp_path: Path) -> None:
    """A store that went back keeps its manifests, and a stream that begins anew comes to the same numbers."""

    async def test(site: Site) -> None:
        ps = await site.process_server()
        before = site.store.save()
        await ps.open_stream(stream(), 1)
        await ps.append(1, 1, 1, cut_segment(1, 1, 1, requested="r1"))
        await stored(ps, 1)
        assert ps.report().last_point is not None and ps.report().skipped_point is None
        await ps.stop()
        replicas = {name for container, name in site.store.save() if container == names.REPLICAS}
        site.store.rollback(before, *replicas)
        again = await site.process_server("ps2")
        opened = await again.open_stream(stream(), 1)
        later = cut_segment(1, 1, 1, requested="r1", cut_time="2026-01-02T04:05:06.000Z")
        await again.append(1, 1, opened.writer_epoch, later)
        await stored(again, 1)
        skipped = again.report().skipped_point
        assert skipped is not None and (skipped.number, skipped.code) == (1, "point-exists")
        assert again.report().last_point is None
        await again.stop()

    run(tmp_path, test)
