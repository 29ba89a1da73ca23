"""Look for secrets where none may be: in every file of an estate, and in every process's command line and environment.

What is not known beforehand (a token, a key that a program makes and forgets) is found by what every private key looks
like. A secret is looked for in each form that it could have been written in, also inside of gzip.
"""

from __future__ import annotations

import base64
import gzip
import os
import threading
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

LOOK_SECONDS = 0.1
PART_BYTES = 8 << 20
LONGEST_FORM = 1024
MANY_BYTES = 64 << 20  # a gzip that is larger is no log
# What PEM of any private key begins with, and the first bytes of every P-256 key in PKCS 8, in base64.
ANY_PRIVATE_KEY = {
    "a private key": b"PRIVATE KEY-----",
    "a P-256 key": b"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg",
}


def private_part(pem: bytes) -> bytes:
    """Return the line of a private key's PEM text that holds most of the private number."""
    lines = [line for line in pem.splitlines() if not line.startswith(b"-----")]
    return lines[1]


def forms(secret: bytes) -> set[bytes]:
    """Return what `secret` looks like as it is, in hexadecimal, in an address, in UTF-16 and in base64."""
    found = {
        secret,
        secret.hex().encode(),
        quote(secret, safe="").encode(),
        secret.decode("latin-1").encode("utf-16le"),
    }
    for shift in range(3):
        # Of base64 only the letters that depend on nothing before and behind it.
        text = base64.b64encode(bytes(shift) + secret)
        found |= {text[4 if shift else 0 : -4], base64.urlsafe_b64encode(bytes(shift) + secret)[4 if shift else 0 : -4]}
    return {each for each in found if len(each) >= 8}


class Search:
    """Looks for `secrets` (name to content)."""

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        self._forms = {name: forms(secret) for name, secret in secrets.items()}

    def found(self, data: bytes) -> set[str]:
        """Return the names of the secrets in `data`."""
        return {name for name, each in self._forms.items() if any(form in data for form in each)}

    def files(self, root: Path, leave_out: Collection[Path]) -> Iterator[str]:
        """Yield "SECRET in FILE" for all files below `root`, but for the files and folders of `leave_out`."""
        for path in _files(root, leave_out):
            yield from (f"{secret} in {path}" for secret in self._in_file(path))

    def _in_file(self, path: Path) -> set[str]:
        found, before = self.found(os.fsencode(path.name)), b""
        with path.open("rb") as file:
            if file.read(2) == b"\x1f\x8b":
                found |= self.found(_unzipped(path))
            file.seek(0)
            while part := file.read(PART_BYTES):
                found |= self.found(before + part)
                before = part[-LONGEST_FORM:]
        return found


def cores(root: Path, leave_out: Collection[Path]) -> list[Path]:
    """Return the core files below `root`: ELF of type 4, whatever they are called."""
    found = []
    for path in _files(root, leave_out):
        with path.open("rb") as file:
            head = file.read(18)
        if head[:4] == b"\x7fELF" and head[16:18] == b"\x04\x00":
            found.append(path)
    return found


class Processes:
    """Gathers command line and environment of every process that one of them has `mark` in, until `stop`."""

    def __init__(self, mark: str) -> None:
        self._mark = os.fsencode(mark)
        self.command_lines: set[bytes] = set()
        self.environments: set[bytes] = set()
        self._known: set[tuple[str, bytes]] = set()
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
                    self._look(folder)
                except OSError:
                    continue  # it ended meanwhile

    def _look(self, folder: Path) -> None:
        line = (folder / "cmdline").read_bytes()
        # A process becomes another program by exec, under the same number: then its environment is another too.
        if (folder.name, line) not in self._known:
            environment = (folder / "environ").read_bytes()
            self._known.add((folder.name, line))
            if self._mark in line or self._mark in environment:
                self.command_lines.add(line)
                self.environments.add(environment)


def _files(root: Path, leave_out: Collection[Path]) -> Iterator[Path]:
    for name, folders, files in os.walk(root):
        folder = Path(name)
        folders[:] = [each for each in folders if folder / each not in leave_out]
        for each in files:
            path = folder / each
            if path not in leave_out and path.is_file() and not path.is_symlink():
                yield path


def _unzipped(path: Path) -> bytes:
    try:
        with gzip.open(path) as file:
            return file.read(MANY_BYTES)
    except (OSError, EOFError, zlib.error):
        return b""  # it only began like one
