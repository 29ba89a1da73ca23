"""A hostile tree writes nothing outside its target and nothing over what is there."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from dr.errors import Corrupt, NotFound, Refused
from dr.files.nodes import Node
from dr.files.tree import Place, Tree, single
from dr.files.volumes import Volume
from dr.files.writing import Writer


class Played(Node):
    """A node of a tree that a test makes up; a directory is given its entries, which may have one name twice."""

    def __init__(self, mode: int, content: bytes | list[tuple[str, Node]] | str = b"", size: int | None = None) -> None:
        self.mode, self._content = mode, content
        self.size = len(content) if size is None else size
        self.uid = self.gid = self.inode = 0
        self.mtime_ns = 1_700_000_000_000_000_000

    def link(self) -> str:
        assert isinstance(self._content, str)
        return self._content

    def children(self) -> Iterator[tuple[str, Node]]:
        assert isinstance(self._content, list)
        yield from self._content

    def open(self) -> BinaryIO:
        assert isinstance(self._content, bytes)
        return io.BytesIO(self._content)


def file(content: bytes = b"x", mode: int = 0o644, size: int | None = None) -> Node:
    return Played(stat.S_IFREG | mode, content, size)


def folder(*entries: tuple[str, Node], mode: int = 0o755) -> Node:
    return Played(stat.S_IFDIR | mode, list(entries))


def link(text: str) -> Node:
    return Played(stat.S_IFLNK | 0o777, text)


def tree_of(root: Node) -> Tree:
    return single(Volume("os:1", 0, "ext4", root=root))


def got(root: Node, target: Path, *, overwrite: bool = False) -> Writer:
    writer = Writer(tree_of(root), overwrite=overwrite)
    writer.write(tree_of(root).find("/"), target)
    return writer


def test_names_that_no_file_may_have_are_left_out_by_name(tmp_path: Path) -> None:
    target = tmp_path / "in" / "target"
    target.parent.mkdir()
    names = ["..", ".", "", "a/b", "../../out", "a\0b"]
    writer = got(folder(*((name, file(b"evil")) for name in names), ("good", file())), target)
    assert {path.name for path in tmp_path.rglob("*")} == {"in", "target", "good"}
    assert {each.code for each in writer.written.skipped} == {"unsafe-name"}
    assert len(writer.written.skipped) == len(names)


def test_names_of_any_bytes_come_as_they_are(tmp_path: Path) -> None:
    names = [b"\x1b[31mred\n", b"\xff\xfe not utf-8", "Süden".encode(), b"-rf", b"a" * 255]
    got(folder(*((os.fsdecode(name), file(name)) for name in names)), tmp_path / "t")
    assert {name: Path(os.fsdecode(bytes(tmp_path / "t") + b"/" + name)).read_bytes() for name in names} == {
        name: name for name in names
    }


def test_a_link_and_a_folder_of_one_name_write_nothing_through_the_link(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    for second in (folder(("passwd", file(b"evil"))), file(b"evil"), link("elsewhere")):
        target = tmp_path / f"t{second.mode}"
        writer = got(folder(("a", link(str(outside))), ("a", second)), target)
        assert list(outside.iterdir()) == []
        assert (target / "a").readlink() == outside
        assert [each.code for each in writer.written.skipped] == ["exists"]
    for second in (folder(("passwd", file(b"evil"))), file(b"new")):
        target = tmp_path / f"over{second.mode}"
        got(folder(("a", link(str(outside))), ("a", second)), target, overwrite=True)
        assert list(outside.iterdir()) == []


def test_what_is_there_stays_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/a").write_text("mine")
    with pytest.raises(Refused) as refused:
        got(folder(("a", file(b"theirs"))), tmp_path / "t")
    assert refused.value.code == "exists"
    assert (tmp_path / "t/a").read_text() == "mine"
    got(folder(("a", file(b"theirs"))), tmp_path / "t", overwrite=True)
    assert (tmp_path / "t/a").read_text() == "theirs"
    (tmp_path / "t/d").mkdir()
    writer = got(folder(("d", file(b"theirs"))), tmp_path / "t", overwrite=True)
    assert [each.code for each in writer.written.skipped] == ["exists"], "a folder is not replaced by a file"


def test_devices_are_left_out_and_special_bits_are_dropped(tmp_path: Path) -> None:
    root = folder(
        ("disk", Played(stat.S_IFBLK | 0o660)),
        ("tty", Played(stat.S_IFCHR | 0o660)),
        ("pipe", Played(stat.S_IFIFO | 0o660)),
        ("socket", Played(stat.S_IFSOCK | 0o660)),
        ("su", file(mode=0o6755)),
        ("tmp", folder(mode=0o1777)),
        ("closed", folder(("inside", file(mode=0o400)), mode=0o500)),
    )
    writer = got(root, tmp_path / "t")
    assert {Path(each.path).name for each in writer.written.skipped} == {"disk", "tty", "pipe", "socket"}
    modes = {name: stat.S_IMODE((tmp_path / "t" / name).stat().st_mode) for name in ("su", "tmp", "closed")}
    assert modes == {"su": 0o755, "tmp": 0o777, "closed": 0o500}
    with pytest.raises(Refused) as refused:
        tree = tree_of(root)
        Writer(tree, overwrite=False).write(tree.find("/tty"), tmp_path / "tty")
    assert refused.value.code == "file-kind"


def test_a_file_that_is_shorter_than_it_says_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Corrupt):
        got(folder(("a", file(b"x", size=1 << 21))), tmp_path / "t")
    assert list((tmp_path / "t").iterdir()) == []


def test_zeros_come_as_holes(tmp_path: Path) -> None:
    content = bytes(3 << 20) + b"end" + bytes(2 << 20)
    got(folder(("sparse", file(content))), tmp_path / "t")
    told = (tmp_path / "t/sparse").stat()
    assert (tmp_path / "t/sparse").read_bytes() == content
    assert told.st_blocks * 512 < 2 << 20


def test_a_loop_of_folders_ends_by_name(tmp_path: Path) -> None:
    entries: list[tuple[str, Node]] = []
    root = Played(stat.S_IFDIR | 0o755, entries)
    entries.append(("again", root))
    with pytest.raises(Corrupt, match="nested"):
        got(root, tmp_path / "t")


def test_a_link_leads_nowhere_but_inside(tmp_path: Path) -> None:
    root = folder(("a", folder(("up", link("../../../../b/c")))), ("b", folder(("c", file(b"inside")))))
    tree = tree_of(root)
    assert tree.find("/a/up").path == "/b/c"
    with pytest.raises(NotFound):
        tree.find("/a/up/further")
    with pytest.raises(NotFound):
        tree_of(folder(("x", link("/etc/passwd")))).find("/x")


def test_a_mount_point_is_the_volume_that_is_mounted_there() -> None:
    inner = Volume("os:2", 0, "xfs", root=folder(("data", file(b"inner"))))
    tree = tree_of(folder(("srv", folder(("data", file(b"outer"))))))
    tree.mounts["/srv"] = inner
    place = tree.find("/srv/data")
    assert isinstance(place, Place)
    assert (place.node.open().read(), place.volume.name) == (b"inner", "os:2")
