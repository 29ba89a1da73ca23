"""What a recovery point holds: its content as images, their digests, the log in them, and what is wrong with it."""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack
from pathlib import Path

from dr.compile import names
from dr.vault.manifest import Manifest
from dr.vault.store import BlobStore
from tests.agent.protected import CHUNK
from tests.points.log import FILES, PER_FILE, SLOTS, in_folder, on_device
from tests.points.server import PARTITION, START, reflink, run

PIECE = 4 << 20
PLACES = 6


class Images:
    """The content of the newest point that was looked at, one file for each disk, and copies to be mounted."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._mounts = [folder / name for name in ("first", "third", "upper", "second", "lower")]
        for mount in self._mounts:
            mount.mkdir()

    def become(self, store: BlobStore, point: Manifest) -> dict[str, str]:
        """Take over a point's content; return the SHA-256 of each disk's."""
        found = {}
        for disk in point.disks:
            whole = hashlib.sha256()
            with (self._folder / f"{disk.name}.img").open("r+b" if self._known(disk.name) else "w+b") as file:
                file.truncate(disk.size_bytes)
                for start in range(0, disk.size_bytes, PIECE):
                    length = min(PIECE, disk.size_bytes - start)
                    new = store.read(names.REPLICAS, disk.blob, start, length, snapshot=disk.snapshot)
                    whole.update(new)
                    old = os.pread(file.fileno(), length, start)
                    if new != old:
                        for at in range(0, length, CHUNK):
                            if new[at : at + CHUNK] != old[at : at + CHUNK]:
                                os.pwrite(file.fileno(), new[at : at + CHUNK], start + at)
            found[disk.name] = whole.hexdigest()
        return found

    def _known(self, name: str) -> bool:
        return (self._folder / f"{name}.img").exists()

    def logs(self) -> list[list[int]]:
        """Mount a copy of each file system, which replays its journal, and read the log; in the order of the places.

        `ValueError` when a record is damaged, `CalledProcessError` when something does not mount.
        """
        first, third, upper, second, lower = self._mounts
        with ExitStack() as mounted:

            def mount(image: Path, point: Path, *options: str) -> None:
                run("mount", "-o", ",".join(("loop", *options)), image, point)
                mounted.callback(run, "umount", point)

            copies = {name: self._folder / f"{name}.copy" for name in ("system", "data", "files")}
            for name, copy in copies.items():
                reflink(self._folder / f"{name}.img", copy)
            for place, point in ((START, first), (START + PARTITION, second)):
                mount(copies["system"], point, f"offset={place}", f"sizelimit={PARTITION}")
            mount(copies["data"], third, "nouuid")
            mount(copies["files"], lower)
            mount(lower / "inner.img", upper)
            ring = on_device((self._folder / "raw.img").read_bytes())
            return [in_folder(first), in_folder(third), in_folder(upper), ring, in_folder(second), in_folder(lower)]


def digests_of(folder: Path, names_of_disks: list[str]) -> dict[str, str]:
    """Return the SHA-256 of each disk's picture."""
    found = {}
    for name in names_of_disks:
        with (folder / f"{name}.img").open("rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def out_of_order(logs: list[list[int]]) -> tuple[int, list[str]]:
    """Return the newest record, and what keeps the logs from being one prefix up to it."""
    newest = max((log[-1] for log in logs if log), default=-1)
    wrong = []
    for place, log in enumerate(logs):
        last = newest - (newest - place) % PLACES
        most = SLOTS if place == 3 else PER_FILE * (FILES - 1)
        least = max(place, last - PLACES * (most - 1))
        expected = range(0) if last < 0 else range(min(log[0], least) if log else least, last + 1, PLACES)
        if log != list(expected):
            missing = sorted(set(expected) - set(log))[:5]
            wrong.append(f"place {place}: record {newest} is there, {missing} are not; its last is {log[-1:]}")
    return newest, wrong
