"""Parts of the scenarios: the throttle, the store that takes everything, the disk's content, what counts as done."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.content import PIECE_BYTES, Content, write_image
from bench.ours import moments_of_all
from bench.peers.blocksync import Blocksync
from bench.peers.peer import PeerFailed, require, run
from bench.scenarios.stored import Rates, requests_at_least, seconds_at_least
from bench.scenarios.work import rotated, split
from bench.taking import TakingStore
from bench.throttle import BURST_SECONDS, Bucket, parse_head
from dr.errors import Conflict, PrerequisiteMissing

MIB = 1 << 20


def test_the_bucket_keeps_requests_and_bytes_apart_by_their_time() -> None:
    bucket = Bucket(500, 60 * MIB)
    waits = [bucket.wait_seconds(512, 100.0) for _ in range(1000)]
    assert waits[-1] == pytest.approx(1000 / 500 - BURST_SECONDS)
    bucket = Bucket(500, 60 * MIB)
    waits = [bucket.wait_seconds(4 * MIB, 100.0) for _ in range(30)]
    assert waits[-1] == pytest.approx(30 * 4 / 60 - BURST_SECONDS)
    assert bucket.wait_seconds(512, 200.0) == 0.0


def test_a_head_names_the_blob_without_what_is_asked_of_it() -> None:
    head = b"PUT /account/replicas/s/d.vhd?comp=page HTTP/1.1\r\nHost: x\r\ncontent-length: 4096\r\n\r\n"
    assert parse_head(head) == (b"/account/replicas/s/d.vhd", 4096)
    assert parse_head(b"GET /a HTTP/1.1\r\n\r\n") == (b"/a", 0)


def test_the_taking_store_keeps_leases_and_sizes_but_no_pages_of_disks() -> None:
    store = TakingStore()
    store.create_pages("replicas", "s/d.vhd", 1 << 40, {})
    store.create_pages("replicas", "s/d.digests", MIB, {})
    lease = store.acquire_lease("replicas", "s/d.vhd")
    with pytest.raises(Conflict):
        store.write_pages("replicas", "s/d.vhd", 0, bytes(512), lease="stale")
    before = store.info("replicas", "s/d.vhd")
    store.write_pages("replicas", "s/d.vhd", 1 << 30, b"x" * MIB, lease=lease)
    after = store.info("replicas", "s/d.vhd")
    assert before.size_bytes == after.size_bytes == 1 << 40 and before.etag != after.etag
    store.write_pages("replicas", "s/d.digests", 512, b"y" * 512)
    assert store.read("replicas", "s/d.digests", 512, 512) == b"y" * 512


@pytest.mark.thorough
def test_content_has_its_shares_and_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    size = 160 * PIECE_BYTES
    assert write_image(tmp_path / "a", Content("a"), size) == size * 6 // 10
    pieces = [piece for piece in Content("a").mixed(size) if piece is not None]
    assert len(set(pieces)) == len(pieces) and {len(piece) for piece in pieces} == {PIECE_BYTES}
    again = b"".join(piece or bytes(PIECE_BYTES) for piece in Content("a").mixed(size))
    assert (tmp_path / "a").read_bytes() == again
    assert Content("b").changed(4096) != Content("a").changed(4096)


def test_done_is_the_last_data_and_not_the_cut_behind_it() -> None:
    moments = [(1.0, 0, 0), (2.0, 5, 1), (3.0, 9, 5), (4.0, 10, 9), (5.0, 10, 10), (6.0, 11, 10)]
    assert moments_of_all(moments, cuts=[10]) == (3.0, 4.0)
    assert moments_of_all(moments, cuts=[]) == (4.0, 5.0)
    assert moments_of_all([(1.0, 0, 0), (2.0, 1, 1)], cuts=[1]) == (1.0, 1.0)


def test_neighbours_share_a_request_up_to_its_size() -> None:
    assert requests_at_least(set()) == 0
    assert requests_at_least({1, 3, 5}) == 3
    assert requests_at_least({7, 8, 9}) == 1
    assert requests_at_least(set(range(65))) == 2


def test_the_slower_of_requests_and_bytes_counts() -> None:
    apart = {2 * number for number in range(1000)}  # 1,000 requests and 62.5 MiB
    rates = Rates(60 * MIB, 500)
    assert seconds_at_least(apart, rates) == 2.0
    together = set(range(3840))  # 60 requests and 240 MiB
    assert seconds_at_least(together, rates) == 4.0


def test_everybody_is_first_once() -> None:
    names = ["a", "b", "c"]
    assert {rotated(names, turn)[0] for turn in range(3)} == set(names)
    assert split({"lifeboat": 1.0, "a": 2.0}) == (1.0, {"a": 2.0})


def test_a_missing_peer_is_an_error() -> None:
    class Gone(Blocksync):
        programs = ("ssh", "no-such-program")

    with pytest.raises(PrerequisiteMissing, match="no-such-program"):
        require((Gone(),))


def test_a_part_of_a_pipe_that_fails_fails_the_peer() -> None:
    run("true {word}", {"word": "two words"})
    with pytest.raises(PeerFailed, match="ended with 1"):
        run("false | cat", {})
