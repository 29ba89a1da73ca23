"""Look for secrets where none may be: in every file of an estate, and on the command line of every process."""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

LOOK_SECONDS = 0.25
PART_BYTES = 8 << 20
LONGEST_SECRET = 256


def private_part(pem: bytes) -> bytes:
    """Return the line of a private key's PEM text that holds most of the private number."""
    lines = [line for line in pem.splitlines() if not line.startswith(b"-----")]
    return lines[1]


def found_in_files(root: Path, secrets: Mapping[str, bytes], leave_out: Collection[Path]) -> Iterator[str]:
    """Yield "SECRET in FILE" for all files below `root`, but for the files and folders of `leave_out`."""
    for name, folders, files in os.walk(root):
        folder = Path(name)
        folders[:] = [each for each in folders if folder / each not in leave_out]
        for each in files:
            path = folder / each
            if path not in leave_out and path.is_file() and not path.is_symlink():
                yield from (f"{secret} in {path}" for secret in _found(path, secrets))


def _found(path: Path, secrets: Mapping[str, bytes]) -> set[str]:
    found, before = set(), b""
    with path.open("rb") as file:
        while part := file.read(PART_BYTES):
            found |= {name for name, secret in secrets.items() if secret in before + part}
            before = part[-LONGEST_SECRET:]
    return found


class CommandLines:
    """Gathers the command line of every process on this machine until `stop`."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            for folder in Path("/proc").glob("[0-9]*"):
                try:
                    self.seen.add((folder / "cmdline").read_bytes())
                except OSError:
                    continue  # it ended meanwhile
