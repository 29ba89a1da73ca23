"""Files of a point written to this machine: never outside the target, never over what is there without a word.

Rules:
- Everything is made relative to an open folder, exclusively, and no link is followed on the way: a hostile tree with a
  link and a folder of one name writes nothing through the link.
- Links are made as links and never followed. Devices, sockets and pipes are not made; names that no file may have
  ("..", one with a slash) are left out. All of that is in `skipped`, by name.
- Mode without the setuid, setgid and sticky bits, and the time of the last change are kept; owners are not.
- A file is written under a name of its own and gets its name when it is whole; an interrupted one leaves nothing.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from dr.errors import Corrupt, Refused
from dr.files.tree import Place, Tree

PIECE_BYTES = 1 << 20
_MODE = 0o777
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TEMPORARY = ".lifeboat-"
MOST_DEEP = 256


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that was not written."""

    path: str
    code: str
    reason: str


@dataclass(slots=True)
class Written:
    """What came of a `get`."""

    files: int = 0
    directories: int = 0
    links: int = 0
    bytes: int = 0
    skipped: list[Skipped] = field(default_factory=list)


class Writer:
    """Writes what `tree` holds; `say` hears each path that was begun, `progress` the bytes written so far."""

    def __init__(
        self,
        tree: Tree,
        *,
        overwrite: bool,
        say: Callable[[str], None] = lambda path: None,
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._tree, self._overwrite, self._say, self._progress = tree, overwrite, say, progress
        self.written = Written()

    def write(self, place: Place, target: Path) -> None:
        """Write a file or a whole directory as `target`.

        Raises `Refused` `exists`, `file-unsupported` or `file-kind` (of what was asked for itself), `Corrupt`,
        `OSError` of this machine.
        """
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if place.node.kind == "directory":
                self._directory(place, folder, os.fsencode(target.name), 0)
            elif place.node.kind == "file":
                self._file(place, folder, os.fsencode(target.name))
            else:
                raise Refused(
                    f"{place.path} is a {place.node.kind}, and is not written",
                    code="file-kind",
                    remedy="only files, directories and links are: `dr files ls` shows what it is",
                )
        finally:
            os.close(folder)

    def _directory(self, place: Place, parent: int, name: bytes, depth: int) -> None:
        if depth > MOST_DEEP:
            raise Corrupt(
                f"{place.path}: directories are nested more than {MOST_DEEP} deep", code="file-system-invalid"
            )
        self._say(place.path)
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not self._overwrite or not _is_folder(name, parent):
                raise _exists(place.path, name, replaceable=_is_folder(name, parent)) from None
        folder = os.open(name, _FOLDER, dir_fd=parent)
        try:
            self.written.directories += 1
            for child in self._tree.children(place):
                self._entry(child, folder, depth)
            os.fchmod(folder, stat.S_IMODE(place.node.mode) & _MODE)
            os.utime(folder, ns=(place.node.mtime_ns, place.node.mtime_ns))
        finally:
            os.close(folder)

    def _entry(self, child: Place, folder: int, depth: int) -> None:
        name, raw = child.name, os.fsencode(child.name)
        if name in {"", ".", ".."} or b"/" in raw or b"\0" in raw:
            self._skip(child, "unsafe-name", "a file cannot have this name")
            return
        try:
            if child.node.kind == "directory":
                self._directory(child, folder, raw, depth + 1)
            elif child.node.kind == "file":
                self._file(child, folder, raw)
            elif child.node.kind == "link":
                self._link(child, folder, raw)
            else:
                self._skip(child, "file-kind", f"it is a {child.node.kind}")
        except Refused as error:
            self._skip(child, error.code, error.message)

    def _file(self, place: Place, folder: int, name: bytes) -> None:
        if _there(name, folder) and not self._overwrite:
            raise _exists(place.path, name, replaceable=not _is_folder(name, folder))
        self._say(place.path)
        content = place.node.open()
        temporary = f"{_TEMPORARY}{secrets.token_hex(8)}".encode()
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                done = 0
                while done < place.node.size:
                    piece = content.read(min(PIECE_BYTES, place.node.size - done))
                    if not piece:
                        raise Corrupt(
                            f"{place.path}: only {done} of its {place.node.size} bytes are there",
                            code="file-system-invalid",
                        )
                    file.seek(done) if not any(piece) else file.write(piece)
                    done += len(piece)
                    file.seek(done)
                    self.written.bytes += len(piece)
                    self._progress(self.written.bytes)
                file.truncate(done)
                file.flush()
                os.fchmod(file.fileno(), stat.S_IMODE(place.node.mode) & _MODE)
                os.utime(file.fileno(), ns=(place.node.mtime_ns, place.node.mtime_ns))
            self._become(temporary, name, folder, place.path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
            raise
        self.written.files += 1

    def _link(self, place: Place, folder: int, name: bytes) -> None:
        text = os.fsencode(place.node.link())
        if not text or b"\0" in text:
            self._skip(place, "unsafe-name", "its link leads nowhere")
            return
        if _there(name, folder) and not self._overwrite:
            raise _exists(place.path, name, replaceable=not _is_folder(name, folder))
        temporary = f"{_TEMPORARY}{secrets.token_hex(8)}".encode()
        os.symlink(text, temporary, dir_fd=folder)
        try:
            self._become(temporary, name, folder, place.path)
        except BaseException:
            os.unlink(temporary, dir_fd=folder)
            raise
        os.utime(name, ns=(place.node.mtime_ns, place.node.mtime_ns), dir_fd=folder, follow_symlinks=False)
        self.written.links += 1

    def _become(self, temporary: bytes, name: bytes, folder: int, path: str) -> None:
        """Give what is whole its name; one that came meanwhile is not replaced unless it may be."""
        if self._overwrite:
            try:
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except IsADirectoryError:
                raise _exists(path, name, replaceable=False) from None
            return
        try:
            os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            raise _exists(path, name, replaceable=not _is_folder(name, folder)) from None
        except OSError as error:
            if error.errno not in {errno.EPERM, errno.EOPNOTSUPP} or _there(name, folder):
                raise
            os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)  # a file system without hard links
            return
        os.unlink(temporary, dir_fd=folder)

    def _skip(self, place: Place, code: str, reason: str) -> None:
        self.written.skipped.append(Skipped(place.path, code, reason))


def _there(name: bytes, folder: int) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _is_folder(name: bytes, folder: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)


def _exists(path: str, name: bytes, *, replaceable: bool) -> Refused:
    """Return the error of a name that is taken; a directory never takes a file's place, nor the other way round."""
    what = "is there already" if replaceable else "is there already, and not of its kind"
    return Refused(
        f"{path}: {os.fsdecode(name)} {what}",
        code="exists",
        remedy="name another target with -o" + (", or say --overwrite" if replaceable else ", or move it away"),
    )


def require_target(target: Path) -> None:
    """Raise `Refused` `no-folder` unless the folder that `target` is to lie in is there."""
    if not target.parent.is_dir():
        raise Refused(
            f"there is no folder {target.parent}", code="no-folder", remedy="make it, or name another with -o"
        )
