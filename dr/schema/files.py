"""Read a declaration's folder: the only part of this room that touches files.

Every `*.yaml` below the folder counts, whatever its name; hidden files and folders don't. What looks like a part of
the declaration and would be passed over (`*.yml`) is an error, not silence.
"""

from __future__ import annotations

import os
from pathlib import Path

from dr.errors import DeclarationInvalid
from dr.model import Declaration
from dr.schema.document import MAX_FILE_BYTES
from dr.schema.examine import Examined, examine
from dr.schema.findings import Finding

MAX_FILES = 1000
MAX_TOTAL_BYTES = 8 << 20


def load(folder: Path) -> Declaration:
    """Return the declaration in `folder`; `DeclarationInvalid` with one line for each error."""
    examined = inspect(folder)
    if examined.declaration is None:
        raise DeclarationInvalid("\n".join(str(finding) for finding in examined.findings))
    return examined.declaration


def check(folder: Path) -> list[Finding]:
    """Return everything that is wrong with the declaration in `folder`; an empty list when it is well."""
    return list(inspect(folder).findings)


def inspect(folder: Path) -> Examined:
    """Read and examine `folder`; findings name files by `folder` as it was given and the path below it."""
    try:
        if not folder.is_dir():
            reason = "this is no folder; name the folder of the declaration" if folder.exists() else "no such folder"
            return Examined(None, (Finding(_name(folder), 1, 1, reason),))
        files = _files(folder)
    except OSError as error:
        return Examined(None, (Finding(_name(folder), 1, 1, f"can't be read: {error.strerror}"),))
    if len(files) > MAX_FILES:
        message = f"{len(files)} YAML files; a declaration has at most {MAX_FILES}"
        return Examined(None, (Finding(_name(folder), 1, 1, message),))
    sources: dict[str, bytes] = {}
    unread: list[Finding] = []
    for file in files:
        content = _read(file)
        if isinstance(content, Finding):
            unread.append(content)
        else:
            sources[_name(file)] = content
    if sum(map(len, sources.values())) > MAX_TOTAL_BYTES:
        message = f"the YAML files have more than {MAX_TOTAL_BYTES} bytes in all"
        return Examined(None, (Finding(_name(folder), 1, 1, message),))
    if not files:
        return Examined(None, (Finding(_name(folder), 1, 1, "no *.yaml file in this folder"),))
    return examine(sources, folder=_name(folder), unread=unread)


def _files(folder: Path) -> list[Path]:
    found = [path for pattern in ("*.yaml", "*.yml") for path in folder.rglob(pattern)]
    return sorted(path for path in found if not any(p.startswith(".") for p in path.relative_to(folder).parts))


def _read(file: Path) -> bytes | Finding:
    """Return a file's content, or why it is not a part of the declaration."""
    if file.suffix == ".yml":
        return Finding(_name(file), 1, 1, f"not read: rename it to {file.stem}.yaml")
    try:
        # Asked first: opening a pipe would wait for ever.
        if not file.is_file():
            return Finding(
                _name(file), 1, 1, "this is no file" if file.exists() else "the file that it links to is gone"
            )
        with file.open("rb") as opened:
            return opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        return Finding(_name(file), 1, 1, f"can't be read: {error.strerror}")


def _name(path: Path) -> str:
    """Return a path as text that can be printed: a name need not be UTF-8."""
    return os.fsencode(path).decode("utf-8", "replace")
