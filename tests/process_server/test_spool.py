"""The spool keeps what was acknowledged, shows nothing of it, and notices what was changed."""

from dataclasses import replace
from pathlib import Path

import pytest

from dr.errors import Corrupt
from dr.process_server.spool import Kind, Spool, Spooled, SpoolFull, SpoolShareFull, load_key
from dr.process_server.stream import continuation
from tests.points.forgetful import ForgetfulDisk

KEY = bytes(range(32))


def entry(sequence: int, previous: int, epoch: int = 3) -> Spooled:
    return Spooled("shop1", epoch, 1, sequence, previous, Kind.DATA, 0)


def test_what_was_kept_comes_back_after_a_start_and_shows_nothing(tmp_path: Path) -> None:
    marker = b"PLANTED-MARKER-OF-A-CUSTOMER"
    spool = Spool(tmp_path, KEY, 1 << 20)
    for sequence in (1, 2, 10):
        spool.append(entry(sequence, sequence - 1), marker + bytes([sequence]))
    again = Spool(tmp_path, KEY, 1 << 20)
    entries, torn = again.scan("shop1")
    assert [e.sequence for e in entries] == [1, 2, 10] and torn == []
    assert [again.read(e) for e in entries] == [marker + b"\1", marker + b"\2", marker + b"\n"]
    assert again.used_bytes == sum(f.stat().st_size for f in tmp_path.rglob("0*"))
    assert all(marker not in f.read_bytes() for f in tmp_path.rglob("*") if f.is_file())
    again.remove(entries)
    assert again.used_bytes == 0 and again.scan("shop1") == ([], [])


def test_torn_files_are_dropped_by_name(tmp_path: Path) -> None:
    spool = Spool(tmp_path, KEY, 1 << 20)
    spool.append(entry(1, 0), b"one")
    folder = tmp_path / "shop1" / "3"
    (folder / ".tmp-00000000000000000002").write_bytes(b"half")
    (folder / "00000000000000000003").write_bytes(b"LS")
    entries, torn = spool.scan("shop1")
    assert [e.sequence for e in entries] == [1]
    assert sorted(torn) == ["3/.tmp-00000000000000000002", "3/00000000000000000003"]
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("at", [4, 12, 20, 30, 33, -1])
def test_a_changed_byte_is_noticed(tmp_path: Path, at: int) -> None:
    spool = Spool(tmp_path, KEY, 1 << 20)
    kept = spool.append(entry(1, 0), b"content")
    file = tmp_path / "shop1/3/00000000000000000001"
    data = bytearray(file.read_bytes())
    data[at] ^= 2
    file.write_bytes(data)
    with pytest.raises(Corrupt) as caught:
        spool.read(kept)
    assert caught.value.code == "spool-corrupt"


def test_a_segment_cannot_take_the_place_of_another(tmp_path: Path) -> None:
    spool = Spool(tmp_path, KEY, 1 << 20)
    spool.append(entry(1, 0), b"one")
    two = spool.append(entry(2, 1), b"two")
    (tmp_path / "shop1/3/00000000000000000001").replace(tmp_path / "shop1/3/00000000000000000002")
    with pytest.raises(Corrupt):
        spool.read(two)


def test_a_full_spool_refuses_by_name_and_keeps_nothing_of_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path, KEY, 1000)
    spool.append(entry(1, 0), bytes(800))
    with pytest.raises(SpoolFull) as caught:
        spool.append(entry(2, 1), bytes(800))
    assert caught.value.http_status == 503
    assert [e.sequence for e in spool.scan("shop1")[0]] == [1]


def test_one_server_takes_no_others_share(tmp_path: Path) -> None:
    spool = Spool(tmp_path, KEY, 10_000)
    spool.share_among(["shop1", "db1", "web1", "web2"])  # 1250 bytes are kept for each
    sequence = 0
    with pytest.raises(SpoolShareFull) as caught:
        for sequence in range(1, 20):
            spool.append(entry(sequence, sequence - 1), bytes(451))  # 500 in the file
    assert (caught.value.code, caught.value.http_status) == ("spool-share-full", 503)
    assert spool.used_bytes_of("shop1") == 6000, "half of the room, and its own share"
    for other in ("db1", "web1", "web2"):
        for number in (1, 2):
            spool.append(replace(entry(number, number - 1), server=other), bytes(451))
    with pytest.raises(SpoolFull):
        for number in range(3, 9):
            spool.append(replace(entry(number, number - 1), server="db1"), bytes(451))
    spool.remove(spool.scan("shop1")[0])
    spool.append(entry(sequence, sequence - 1), bytes(451))


def test_only_what_continues_the_replica_may_be_applied() -> None:
    chain = [entry(4, 3), entry(5, 4), entry(9, 5), entry(10, 9)]
    found = continuation(chain, 4, 1)
    assert [[e.sequence for e in part] for part in (found.stored, found.apply, found.void)] == [[4], [5, 9, 10], []]
    behind = continuation(chain, 2, 1)
    assert behind.went_back and [e.sequence for e in behind.void] == [4, 5, 9, 10]
    holed = continuation([chain[0], chain[2], chain[3]], 3, 1)
    assert [e.sequence for e in holed.apply] == [4] and [e.sequence for e in holed.void] == [9, 10]
    other_epoch = continuation(chain, 3, 2)
    assert not other_epoch.apply and len(other_epoch.void) == 4


def test_the_key_is_made_once_and_only_ours_to_read(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "spool.key"
    key = load_key(path)
    assert len(key) == 32 and load_key(path) == key and path.stat().st_mode & 0o777 == 0o600


@pytest.mark.real
def test_what_was_voided_does_not_come_back_after_a_power_cut(tmp_path: Path) -> None:
    disk = ForgetfulDisk(tmp_path / "disk")
    try:
        spool = Spool(disk.folder, KEY, 1 << 20)
        kept = [spool.append(entry(sequence, sequence - 1), b"one") for sequence in (1, 2, 3)]
        spool.remove(kept[:1])
        disk.order(do="on", chance=None)
        assert [e.sequence for e in spool.scan("shop1")[0]] == [1, 2, 3], "what is stored may come back"
        spool.void(kept[1:])
        disk.order(do="on", chance=None)
        assert [e.sequence for e in spool.scan("shop1")[0]] == [1], "what is void may not"
    finally:
        disk.close()
