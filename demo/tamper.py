"""TAMPER=1: change one block inside the vault, behind everybody's back.

Snapshots can't be written through the storage API, so this does what rot or a thief with the storage's own disks
would do: it finds the stored bytes of one block of the newest recovery point in the files of the storage emulator and
flips a bit.
"""

from __future__ import annotations

import mmap
from pathlib import Path

from demo.stage import CommandFailed

BLOCK = 4096


def flip_one_bit(storage: Path, picture: Path) -> str:
    """Flip one bit of a stored block that `picture` (the frozen disk) holds too; return where it was."""
    with picture.open("rb") as disk:
        for offset in _candidates(disk.seek(0, 2)):
            disk.seek(offset)
            block = disk.read(BLOCK)
            if len(set(block)) < 100:  # too plain to be found once only
                continue
            places = _find(storage, block)
            if len(places) == 1:
                path, place = places[0]
                _flip(path, place)
                return f"disk offset {offset}"
    raise CommandFailed("no block of the disk was found in the storage's files exactly once")


def _candidates(size_bytes: int) -> range:
    """Offsets spread over the middle of the disk, where the file system's data lies."""
    return range(size_bytes // 4, size_bytes // 4 * 3, 1 << 20)


def _find(storage: Path, block: bytes) -> list[tuple[Path, int]]:
    found = []
    for path in sorted(storage.rglob("*")):
        if not path.is_file() or path.stat().st_size < BLOCK:
            continue
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            place = view.find(block)
            while place >= 0:
                found.append((path, place))
                place = view.find(block, place + 1)
    return found


def _flip(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))
