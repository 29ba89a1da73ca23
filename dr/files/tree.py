"""The server's own tree of files: its volumes put together as its fstab says, and paths resolved inside it.

Rules:
- A link is followed inside the tree only: an absolute one begins at the server's root, ".." at the root stays there.
- `VOLUME:/PATH` names a place on one volume, for servers whose fstab does not help.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from dr.errors import LifeboatError, NotFound, Refused
from dr.files.nodes import Node
from dr.files.volumes import Volume, canonical_uuid

MOST_LINKS = 40
_FSTAB_BYTES = 1 << 20
_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Place:
    """A node, the path it was found under, and the volume it is on; `name` is its own, whatever is in it."""

    path: str
    node: Node
    volume: Volume
    name: str = ""


@dataclass(slots=True)
class Tree:
    """Volumes by mount point; `unknown` are those of fstab that no volume is."""

    mounts: dict[str, Volume] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    def find(self, path: str) -> Place:
        """Return what is at `path`, following links. `NotFound` `no-such-file`, `Refused` `too-many-links`."""
        return self._walk(path, follow_last=True)

    def children(self, place: Place) -> Iterator[Place]:
        """Yield what a directory holds; a mount point is the volume that is mounted there."""
        for name, node in place.node.children():
            yield self._at(place, name, node)

    def _at(self, parent: Place, name: str, node: Node) -> Place:
        path = f"{parent.path.rstrip('/')}/{name}"
        mounted = None if "/" in name else self.mounts.get(path)
        if mounted is not None and mounted.root is not None and path != "/":
            return Place(path, mounted.root, mounted, name)
        return Place(path, node, parent.volume, name)

    def _walk(self, path: str, *, follow_last: bool) -> Place:
        volume = self.mounts["/"]
        assert volume.root is not None
        start = Place("/", volume.root, volume)
        todo, trail, links = _parts(path), [start], 0
        while todo:
            part = todo.pop(0)
            if part == "..":
                trail = trail[:-1] or [start]
                continue
            found = self._child(trail[-1], part)
            if found.node.kind == "link" and (todo or follow_last):
                links += 1
                if links > MOST_LINKS:
                    raise Refused(
                        f"{path}: more than {MOST_LINKS} links",
                        code="too-many-links",
                        remedy="they lead in a circle, or nearly: name the file that is meant itself",
                    )
                text = found.node.link()
                trail = [start] if text.startswith("/") else trail
                todo = [*_parts(text), *todo]
                continue
            trail.append(found)
        return trail[-1]

    def _child(self, parent: Place, name: str) -> Place:
        if parent.node.kind != "directory":
            raise NotFound(
                f"{parent.path} is a {parent.node.kind} and no directory: there is nothing below it",
                code="no-such-file",
                remedy=f"`dr files ls` of {_above(parent.path)} shows what is beside it",
            )
        for found, node in parent.node.children():
            if found == name:
                return self._at(parent, name, node)
        raise NotFound(
            f"there is no {parent.path.rstrip('/')}/{name} in this point",
            code="no-such-file",
            remedy=f"`dr files ls` of {parent.path} shows what there is",
        )


def tree_of(volumes: list[Volume]) -> Tree:
    """Return the tree as the fstab of the root's volume says. `NotFound` `no-root` names the volumes there are."""
    roots = [volume for volume in volumes if volume.root is not None and _fstab(volume) is not None]
    named = [
        volume for volume in roots if any(_is(volume, device) for device, point in _entries(volume) if point == "/")
    ]
    if not roots:
        raise no_root(volumes)
    root = (named or roots)[0]
    tree = Tree({"/": root})
    for device, point in _entries(root):
        if point == "/":
            continue
        mounted = next((volume for volume in volumes if _is(volume, device)), None)
        if mounted is None:
            tree.unknown.append(f"{point} ({device})")
        else:
            tree.mounts[point] = mounted
    return tree


def single(volume: Volume) -> Tree:
    """Return the tree of one volume alone. `Refused` `volume-unreadable`."""
    if volume.root is None:
        raise Refused(
            f"{volume.name} has no files that can be read: {volume.problem}",
            code="volume-unreadable",
            remedy="fail over, and read it on the server",
        )
    return Tree({"/": volume})


def no_root(volumes: list[Volume]) -> NotFound:
    """Return the error of a server whose root was not found."""
    there = "; ".join(f"{v.name} ({v.kind}{', ' + v.problem if v.problem else ''})" for v in volumes) or "none"
    return NotFound(
        f"no volume of this point has an etc/fstab that could say how they are mounted; there are: {there}",
        code="no-root",
        remedy="name a volume: `dr files ls SERVER VOLUME:/PATH`",
    )


def _fstab(volume: Volume) -> str | None:
    try:
        place = single(volume).find("/etc/fstab")
        if place.node.kind != "file" or place.node.size > _FSTAB_BYTES:
            return None
        return place.node.open().read().decode(errors="surrogateescape")
    except NotFound:
        return None
    except LifeboatError as error:
        if error.code in {"too-many-links", "file-unsupported"}:
            return None
        raise


def _entries(volume: Volume) -> Iterator[tuple[str, str]]:
    """Yield device and mount point of every line of the volume's fstab that mounts something."""
    for line in (_fstab(volume) or "").splitlines():
        fields = [_OCTAL.sub(lambda found: chr(int(found[1], 8)), each) for each in line.split()]
        if len(fields) >= 3 and not line.lstrip().startswith("#") and fields[1].startswith("/"):
            point = "/" + "/".join(_parts(fields[1]))
            if fields[0].startswith(("/dev/", "UUID=", "LABEL=", "PARTUUID=")):
                yield fields[0], point


def _is(volume: Volume, device: str) -> bool:
    """Tell whether a device of fstab is this volume."""
    key, _, value = device.partition("=")
    value = value.strip('"')
    if key == "UUID":
        return bool(volume.uuid) and canonical_uuid(value) == volume.uuid
    if key == "LABEL":
        return value == volume.label != ""
    if key == "PARTUUID":
        return value.lower() == volume.partition != ""
    by_id = {
        "/dev/disk/by-uuid/": canonical_uuid(device.rpartition("/")[2]) == volume.uuid != "",
        "/dev/disk/by-partuuid/": device.rpartition("/")[2].lower() == volume.partition != "",
        "/dev/disk/by-label/": device.rpartition("/")[2] == volume.label != "",
    }
    if any(device.startswith(start) and same for start, same in by_id.items()):
        return True
    return "/" in volume.name and device in {f"/dev/{volume.name}", f"/dev/mapper/{_mapper(volume.name)}"}


def _above(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _mapper(name: str) -> str:
    group, _, logical = name.partition("/")
    return f"{group.replace('-', '--')}-{logical.replace('-', '--')}"


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in {"", "."}]
