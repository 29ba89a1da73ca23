"""Makes lz4 importable inside the agent's package: a shared library cannot be loaded from a zip file.

Rules kept here:
- Only for root: the folder is root's, mode 0700, and no symbolic link; every file is compared with the package before
  it is used, so that what is loaded is what was installed.
- Whatever Python the server has, the package carries the build for it, or says by name that it does not.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import stat
import sys
import zipfile
from typing import Mapping, Optional

from dr.errors import PrerequisiteMissing, Refused

WHEELS = "wheels"


def build_name() -> str:
    """Return the name of this interpreter's build in the package, such as `cp311-x86_64`."""
    return f"cp{sys.version_info[0]}{sys.version_info[1]}-{platform.machine()}"


def provide_lz4(cache_folder: str) -> None:
    """Unpack lz4 below `cache_folder` and make it importable; does nothing in a checkout.

    Raises `PrerequisiteMissing` when the package has no build for this Python, `Refused` when the folder is not safe.
    """
    package = package_path()
    if package is None:
        return
    sys.dont_write_bytecode = True  # what is loaded is what was unpacked, and nothing writes to a frozen disk
    with zipfile.ZipFile(package) as archive:
        prefix = f"{WHEELS}/{build_name()}/"
        names = [name for name in archive.namelist() if name.startswith(prefix)]
        if not names:
            raise PrerequisiteMissing(
                f"the agent's package has no lz4 for {platform.python_implementation()} {platform.python_version()}"
                f" on {platform.machine()}",
                remedy="install a supported Python (3.9 to 3.13) from the distribution",
                code="python-unsupported",
            )
        files = {name[len(prefix) :]: archive.read(name) for name in names}
    digest = hashlib.sha256(b"".join(files[name] for name in sorted(files))).hexdigest()[:16]
    folder = os.path.join(cache_folder, f"lz4-{build_name()}-{digest}")
    os.makedirs(os.path.dirname(cache_folder), exist_ok=True)
    for own in (cache_folder, folder, *(os.path.join(folder, name) for name in sorted(_folders(files)))):
        _own_folder(own)
    for name, content in files.items():
        _own_file(os.path.join(folder, name), content)
    sys.path.insert(0, folder)


def _folders(files: Mapping[str, bytes]) -> "set[str]":
    """Return every folder that the names lie in; sorted, each comes after the one it lies in."""
    found: "set[str]" = set()
    for name in files:
        parts = name.split("/")[:-1]
        found |= {"/".join(parts[:count]) for count in range(1, len(parts) + 1)}
    return found


def package_path() -> Optional[str]:
    """Return the path of the package that this code runs from, None in a checkout."""
    archive = getattr(__spec__.loader, "archive", None)
    return archive if isinstance(archive, str) else None


def _own_folder(folder: str) -> None:
    """Make the folder if it is not there; refuse one that anybody but us could change."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    facts = os.lstat(folder)
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
        raise Refused(
            f"{folder} could be changed by others",
            remedy=f"remove {folder} and start the agent again",
            code="unsafe-folder",
        )


def _own_file(path: str, content: bytes) -> None:
    if _content(path) == content:
        return
    temporary = f"{path}.{os.getpid()}.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o500)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _content(path: str) -> Optional[bytes]:
    try:
        facts = os.lstat(path)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & 0o022:
            return None
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None
