"""A recovery point opened for its files: which volumes, which tree, what was read."""

from __future__ import annotations

from dataclasses import dataclass

from dr.errors import NotFound
from dr.files.snapshot import SnapshotStream, Traffic
from dr.files.tree import Place, Tree, single, tree_of
from dr.files.volumes import Volume, Warned, volumes
from dr.vault.manifest import Manifest
from dr.vault.store import BlobStore


@dataclass(frozen=True, slots=True)
class OpenPoint:
    """The volumes of one point, and what was read of them so far."""

    point: Manifest
    volumes: list[Volume]
    traffic: Traffic

    def find(self, path: str) -> tuple[Tree, Place]:
        """Return the tree and what is at `/PATH` or `VOLUME:/PATH` in it. `NotFound`, `Refused`."""
        name, colon, inside = path.partition(":/")
        if (colon and "/" not in name) or name in {volume.name for volume in self.volumes}:
            tree = single(self._volume(name))
            return tree, tree.find(f"/{inside}")
        tree = tree_of(self.volumes)
        return tree, tree.find(path)

    def _volume(self, name: str) -> Volume:
        for volume in self.volumes:
            if volume.name == name:
                return volume
        raise NotFound(
            f'this point has no volume "{name}"',
            code="no-such-volume",
            remedy=f"there are {', '.join(volume.name for volume in self.volumes) or 'none'}",
        )


def warnings(tree: Tree) -> list[Warned]:
    """Return what makes the files of a tree less than they should be, of all its volumes."""
    found = [warned for volume in dict.fromkeys(map(id, tree.mounts.values())) for warned in _by_id(tree, volume)]
    if tree.unknown:
        found.append(
            Warned(
                "mount-unknown",
                f"fstab mounts what no volume of this point is: {', '.join(tree.unknown)}",
                "its files are not in this tree; `dr files ls SERVER VOLUME:/` reads a volume by name",
            )
        )
    for point, volume in tree.mounts.items():
        if volume.root is None:
            message = f"{point} is on {volume.name}, which has no files that can be read: {volume.problem}"
            found.append(Warned("volume-unreadable", message, "fail over, and read it on the server"))
    return found


def _by_id(tree: Tree, identity: int) -> list[Warned]:
    return next(volume.warnings for volume in tree.mounts.values() if id(volume) == identity)


def open_point(store: BlobStore, point: Manifest) -> OpenPoint:
    """Open a point. `Corrupt` `point-corrupt` when something read is not what was cut, `NotFound`, `Unreachable`."""
    traffic = Traffic()
    streams = {disk.name: SnapshotStream(store, disk, traffic) for disk in point.disks}
    return OpenPoint(point, volumes(point, streams), traffic)
