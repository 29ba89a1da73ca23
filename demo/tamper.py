"""TAMPER=1: change one block inside the vault, behind everybody's back.

Snapshots can't be written through the storage API, so this does what rot or a thief with the storage's own disks
would do: it finds the stored bytes of one block in the files of the storage emulator and flips a bit. The block is of
a file that was put on the server for this: the recovered server must boot as if nothing were wrong, so that only the
comparison of the disks can tell.
"""

from __future__ import annotations

import base64
import mmap
from pathlib import Path

from demo.stage import CommandFailed
from tools.machines.source import SourceMachine

BLOCK = 4096
RECEIPTS = "/var/lib/shop/receipts"


def plant(source: SourceMachine) -> bytes:
    """Put a file of noise on the server and return one of its blocks."""
    source.run(f"sudo sh -c 'head -c {64 * BLOCK} /dev/urandom > {RECEIPTS} && sync {RECEIPTS}'")
    return base64.b64decode(source.run(f"sudo dd if={RECEIPTS} bs={BLOCK} skip=32 count=1 status=none | base64 -w0"))


def flip_one_bit(storage: Path, block: bytes) -> str:
    """Flip one bit of `block` wherever the storage's files hold it; return where that was."""
    places = _find(storage, block)
    if not places:
        raise CommandFailed("the block was not found in the storage's files")
    for path, place in places:
        _flip(path, place)
    return ", ".join(f"{path.name} at {place}" for path, place in places)


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
