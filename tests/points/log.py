"""The workload: one ordered log over all disks that never pauses. `python -m tests.points.log FOLDER-OR-DEVICE …`.

Record 0 goes to the first place, record 1 to the second, and so on around. Each is synced before the next one is
written, so whatever holds record n+1 must hold record n, on whichever disk. A record's content follows from its number.

In a folder: files of 256 records, the newest four of them. On a device: a ring of slots, in place. Beside the log each
folder gets files that nobody syncs, so that there is always something to write back.

Standard input: `pace SECONDS` sets the time between two records. Standard
output: `n SECONDS DURATION` for each record that took longer than 10 ms (time of day, and how long it took).
"""

from __future__ import annotations

import hashlib
import mmap
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

RECORD = 512
PER_FILE = 256
FILES = 4
SLOTS = 1024
SLOW_SECONDS = 0.01
PACE = 0.003  # seconds between two records: two cores have to carry everything else as well
NOISE_SECONDS = 0.5
NOISE_BYTES = 64 << 10


def record(number: int) -> bytes:
    """Return the record with this number: the number, and what only it can be followed by."""
    head = b"%016d" % number
    return head + hashlib.shake_128(head).digest(RECORD - len(head))


def number_of(data: bytes) -> int | None:
    """Return the number of a whole record, None when it is none."""
    if len(data) == RECORD and data[:16].isdigit() and record(int(data[:16])) == data:
        return int(data[:16])
    return None


class InFolder:
    def __init__(self, folder: Path, place: int, places: int) -> None:
        self._folder, self._place, self._places = folder, place, places
        self._file = -1

    def write(self, number: int) -> None:
        name, start = divmod(number // self._places, PER_FILE)
        if start == 0:
            if self._file >= 0:
                os.close(self._file)
            self._file = os.open(self._folder / f"log-{name:08d}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            with suppress(FileNotFoundError):
                (self._folder / f"log-{name - FILES:08d}").unlink()
            _sync_folder(self._folder)
        os.write(self._file, record(number))
        os.fsync(self._file)


class OnDevice:
    def __init__(self, device: Path, places: int) -> None:
        self._file = os.open(device, os.O_WRONLY | os.O_DIRECT | os.O_DSYNC)
        self._buffer = mmap.mmap(-1, RECORD)
        self._places = places

    def write(self, number: int) -> None:
        self._buffer[:] = record(number)
        os.pwritev(self._file, [self._buffer], number // self._places % SLOTS * RECORD)


def in_folder(folder: Path) -> list[int]:
    """Return the numbers of a folder's log in the order of its files. `ValueError` when it is damaged."""
    found: list[int] = []
    for file in sorted(folder.glob("log-*")):
        found += numbers(file.read_bytes(), str(file))
    return found


def on_device(data: bytes) -> list[int]:
    """Return the numbers in a device's ring, lowest first. `ValueError` when it is damaged."""
    held = data[: SLOTS * RECORD]
    used = -(-len(held.rstrip(b"\0")) // RECORD) * RECORD
    return sorted(numbers(held[:used], "the ring"))


def numbers(data: bytes, where: str) -> list[int]:
    found = []
    for start in range(0, len(data), RECORD):
        number = number_of(data[start : start + RECORD])
        if number is None:
            raise ValueError(f"{where}: no whole record at {start}")
        found.append(number)
    return found


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _noise(folder: Path) -> None:
    for turn in range(1 << 30):
        (folder / f"noise-{turn % 8}").write_bytes(os.urandom(NOISE_BYTES))
        time.sleep(NOISE_SECONDS)


def main(where: list[Path]) -> None:
    pace = [PACE]

    def listen() -> None:
        for line in sys.stdin:
            pace[0] = float(line.split()[1])
        os._exit(0)  # whoever started it is gone

    threading.Thread(target=listen, daemon=True).start()
    places = [
        InFolder(path, at, len(where)) if path.is_dir() else OnDevice(path, len(where)) for at, path in enumerate(where)
    ]
    for path in where:
        if path.is_dir():
            threading.Thread(target=_noise, args=(path,), daemon=True).start()
    for number in range(1 << 60):
        began, now = time.monotonic(), time.time()
        places[number % len(places)].write(number)
        took = time.monotonic() - began
        if took > SLOW_SECONDS:
            print(f"{number} {now:.4f} {took:.4f}", flush=True)
        time.sleep(pace[0])


if __name__ == "__main__":
    main([Path(each) for each in sys.argv[1:]])
