"""A loop device as the server's disk, and what is written to it."""

from __future__ import annotations

import mmap
import os
import subprocess
import time
from pathlib import Path

from bench.content import Content
from dr.errors import LifeboatError

_READ_BYTES = 8 << 20


class LoopDisk:
    """A loop device over `image`; `direct` passes the machine's page cache by."""

    def __init__(self, image: Path, *, direct: bool = False) -> None:
        self.image = image
        self.size_bytes = image.stat().st_size
        options = ["--direct-io=on"] if direct else []
        command = ["losetup", "--find", "--show", *options, str(image)]
        self.device = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def warm(self) -> None:
        """Have the image in the page cache, so that what is compared is programs and not this machine's disk."""
        with self.image.open("rb", buffering=0) as file:
            while file.read(_READ_BYTES):
                pass

    def write(self, content: Content, total_bytes: int, length: int, places: set[int] | None = None) -> float:
        """Write `total_bytes` in random writes of `length`, past the device's cache; return when the first one began.

        Where they went is added to `places`, in bytes.
        """
        buffer = mmap.mmap(-1, length)
        writes = [
            (content.place(self.size_bytes, length), content.changed(length)) for _ in range(total_bytes // length)
        ]
        descriptor = os.open(self.device, os.O_WRONLY | os.O_DIRECT)
        begun = time.monotonic()
        try:
            for place, data in writes:
                buffer[:] = data
                os.pwrite(descriptor, buffer, place)
        finally:
            os.close(descriptor)
        if places is not None:
            places.update(place for place, _ in writes)
        return begun

    def close(self) -> None:
        """Give the device back; the image stays."""
        subprocess.run(["losetup", "--detach", self.device], check=True)


def make_empty(image: Path, size_bytes: int) -> None:
    """Make the image of a disk of zeros; it takes no room."""
    with image.open("wb") as file:
        file.truncate(size_bytes)


def require_equal(source: Path, target: Path, who: str) -> None:
    """Raise unless both files hold the same bytes: a figure of a wrong copy is worth nothing."""
    done = subprocess.run(["cmp", str(source), str(target)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise WrongCopy(f"{who}: its copy is not equal: {done.stdout}{done.stderr}".strip())


class WrongCopy(LifeboatError):
    """Somebody's copy differs from the source."""

    code = "bench-wrong-copy"
    remedy = "a fault of that program, or of how it is called here; no figure of this run is published"
