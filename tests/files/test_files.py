"""Files read from a point's snapshots: what is read, how much, and what is refused by name."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import pytest

from dr.errors import Corrupt, LifeboatError, NotFound, Refused
from dr.files.opened import OpenPoint, open_point, warnings
from dr.files.snapshot import PIECE_BYTES, SnapshotStream, Traffic
from dr.files.tree import Place, Tree
from dr.files.writing import Writer
from dr.vault.memory import MemoryBlobStore
from tests.files.images import MIB, extfs, gpt, mbr, point_of, small_tree

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]

ROOT, DATA = UUID("11111111-2222-4333-8444-555555555555"), UUID("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee")
PART = UUID("99999999-8888-4777-8666-555555555555")


def one_disk(tmp_path: Path, fstab: str = f"UUID={ROOT} / ext4 defaults 0 1\n", **cut: object) -> OpenPoint:
    content = small_tree(tmp_path / "content", fstab)
    root = extfs(tmp_path, "root", 24 * MIB, content, "-U", str(ROOT), "-L", "root disk")
    return open_point(*point_of({"os": mbr([root])}, **cut))


def test_a_file_comes_with_its_content_mode_and_time(tmp_path: Path) -> None:
    opened = one_disk(tmp_path)
    tree, place = opened.find("/etc/hostname")
    assert (place.node.kind, place.node.mode & 0o7777, place.node.size) == ("file", 0o640, 6)
    writer = Writer(tree, overwrite=False)
    writer.write(place, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_text() == "shop1\n"
    told = (tmp_path / "fetched").stat()
    assert (told.st_mode & 0o7777, told.st_mtime_ns) == (0o640, 1_700_000_000_000000000)
    assert warnings(tree) == []
    with pytest.raises(Refused) as refused:
        writer.write(place, tmp_path / "fetched")
    assert refused.value.code == "exists"
    Writer(tree, overwrite=True).write(place, tmp_path / "fetched")
    assert list(tmp_path.glob(".lifeboat-*")) == []


def test_only_what_is_needed_is_read(tmp_path: Path) -> None:
    opened = one_disk(tmp_path)
    tree, place = opened.find("/etc/hostname")
    Writer(tree, overwrite=False).write(place, tmp_path / "small")
    assert opened.traffic.content_bytes < 12 * PIECE_BYTES, "a small file of a disk of 25 MiB"
    before = opened.traffic.content_bytes
    tree, place = opened.find("/srv/deep/er/big")
    Writer(tree, overwrite=False).write(place, tmp_path / "big")
    assert (tmp_path / "big").read_bytes() == (tmp_path / "content/srv/deep/er/big").read_bytes()
    assert opened.traffic.content_bytes - before < 3 * MIB + 24 * PIECE_BYTES


def test_a_directory_comes_with_links_as_links(tmp_path: Path) -> None:
    opened = one_disk(tmp_path)
    tree, place = opened.find("/etc")
    writer = Writer(tree, overwrite=False)
    writer.write(place, tmp_path / "etc")
    assert (tmp_path / "etc/name").readlink() == Path("hostname")
    assert (tmp_path / "etc/out").readlink() == Path("../../../../etc/passwd")
    assert (writer.written.files, writer.written.links, writer.written.directories) == (2, 3, 1)
    assert writer.written.skipped == []


def test_links_on_the_way_stay_inside_the_tree(tmp_path: Path) -> None:
    opened = one_disk(tmp_path)
    for path in ("/etc/name", "/etc/away", "/../../etc/../etc//./away"):
        assert opened.find(path)[1].path == "/etc/hostname"
    with pytest.raises(NotFound, match="/etc/passwd"):  # the point's own, which it has not
        opened.find("/etc/out")
    with pytest.raises(NotFound):
        opened.find("/etc/hostname/x")
    content = tmp_path / "loops"
    small_tree(content)
    (content / "a").symlink_to("b")
    (content / "b").symlink_to("a")
    looped = open_point(*point_of({"os": extfs(tmp_path, "loops", 16 * MIB, content)}))
    with pytest.raises(Refused) as refused:
        looped.find("/a")
    assert refused.value.code == "too-many-links"


def test_volumes_are_mounted_as_fstab_says_and_what_is_not_there_is_named(tmp_path: Path) -> None:
    fstab = (
        f"# a comment\nUUID={ROOT} / ext4 defaults 0 1\nLABEL=data /srv ext4 defaults 0 2\n"
        f'PARTUUID="{PART}" /with\\040blank ext4 defaults 0 2\nUUID={UUID(int=1)} /gone ext4 defaults 0 2\n'
        "tmpfs /tmp tmpfs defaults 0 0\nproc /proc proc defaults 0 0\n"
    )
    content = small_tree(tmp_path / "content", fstab)
    (content / "with blank").mkdir()
    data, third = tmp_path / "data", tmp_path / "third"
    for folder in (data, third):
        folder.mkdir()
        (folder / "orders").write_text(folder.name)
    root = extfs(tmp_path, "root", 24 * MIB, content, "-U", str(ROOT))
    second = extfs(tmp_path, "data", 8 * MIB, data, "-L", "data")
    last = extfs(tmp_path, "third", 8 * MIB, third)
    opened = open_point(*point_of({"os": gpt([root, last], [DATA, PART]), "data": second}))
    assert [volume.name for volume in opened.volumes] == ["data", "os:1", "os:2"]
    for path, wanted in (("/srv/orders", b"data"), ("/with blank/orders", b"third"), ("data:/orders", b"data")):
        assert opened.find(path)[1].node.open().read() == wanted
    tree, place = opened.find("/")
    assert {each.path for each in tree.children(place)} >= {"/srv", "/etc", "/with blank"}
    (warned,) = warnings(tree)
    assert warned.code == "mount-unknown"
    assert "/gone" in warned.message


def test_a_server_without_fstab_or_file_system_says_which_volumes_there_are(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    disk = extfs(tmp_path, "x", 8 * MIB, tmp_path / "empty")
    swap = bytes(4086) + b"SWAPSPACE2" + bytes(MIB - 4096)
    opened = open_point(*point_of({"os": mbr([disk, swap]), "raw": os.urandom(MIB)}))
    with pytest.raises(NotFound) as missing:
        opened.find("/etc")
    assert missing.value.code == "no-root"
    assert "os:2 (swap, it is swap)" in missing.value.message
    assert "raw (unknown" in missing.value.message
    assert opened.find("os:1:/")[1].node.kind == "directory"
    with pytest.raises(Refused) as refused:
        opened.find("os:2:/")
    assert refused.value.code == "volume-unreadable"
    with pytest.raises(NotFound) as missing:
        opened.find("os:9:/")
    assert (missing.value.code, missing.value.remedy) == ("no-such-volume", "there are os:1, os:2, raw")


def test_a_broken_file_system_ends_by_name(tmp_path: Path) -> None:
    """A server whose own file system is damaged: all of it is walked, and nothing ends as an error of a library."""
    content = small_tree(tmp_path / "content")
    for number in range(200):
        (content / f"srv/deep/some name {number}").write_text("x" * number)
    whole = extfs(tmp_path, "root", 8 * MIB, content, "-O", "^metadata_csum")
    inodes = [at for at in range(0, MIB, 4096) if any(whole[at : at + 4096])]
    named: set[str] = set()
    for seed in range(30):
        chance, image = random.Random(seed), bytearray(whole)
        for _ in range(60):
            image[chance.choice(inodes) + chance.randrange(4096)] = chance.randrange(256)
        with noted(named):
            tree, place = open_point(*point_of({"os": bytes(image)})).find("os:/")
            walk(tree, place, named)
    assert "file-system-invalid" in named, "or nothing was broken"


@contextmanager
def noted(named: set[str]) -> Iterator[None]:
    try:
        yield
    except LifeboatError as error:
        named.add(error.code)


def walk(tree: Tree, place: Place, named: set[str], depth: int = 0) -> None:
    for child in tree.children(place):
        with noted(named):
            if child.node.kind == "directory" and depth < 6:
                walk(tree, child, named, depth + 1)
            elif child.node.kind == "link":
                child.node.link()
            elif child.node.kind == "file":
                child.node.open().read(4 * MIB)


class Tampered(MemoryBlobStore):
    """The same store, in which one byte of a blob's snapshots is another."""

    def __init__(self, store: MemoryBlobStore, blob: str, at: int) -> None:
        super().__init__()
        self.rollback(store.save())
        self._name, self._at = blob, at

    def read(self, container: str, name: str, offset: int, length: int, *, snapshot: str | None = None) -> bytes:
        data = bytearray(super().read(container, name, offset, length, snapshot=snapshot))
        if name == self._name and offset <= self._at < offset + length:
            data[self._at - offset] ^= 1
        return bytes(data)


def test_what_is_not_what_was_cut_is_never_handed_out(tmp_path: Path) -> None:
    content = small_tree(tmp_path / "content")
    store, point = point_of({"os": extfs(tmp_path, "root", 24 * MIB, content)})
    (disk,) = point.disks
    big = (content / "srv/deep/er/big").read_bytes()
    stream = SnapshotStream(store, disk, Traffic())
    whole = stream.read(disk.size_bytes)
    at = whole.index(big[MIB : MIB + 4096])
    opened = open_point(Tampered(store, disk.blob, at), point)
    tree, place = opened.find("/etc/hostname")
    Writer(tree, overwrite=False).write(place, tmp_path / "good")
    tree, place = opened.find("/srv/deep/er/big")
    with pytest.raises(Corrupt) as corrupt:
        Writer(tree, overwrite=False).write(place, tmp_path / "bad")
    assert corrupt.value.code == "point-corrupt"
    assert not (tmp_path / "bad").exists()
    assert list(tmp_path.glob(".lifeboat-*")) == []
