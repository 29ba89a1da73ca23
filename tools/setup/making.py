"""Make a file or folder once, whole or not at all, for any number of processes that want it at the same time.

Rules kept here: the maker works in a sibling `.making-NAME`, which a later attempt throws away if the maker was
killed; the finished thing appears by one rename; a lock on a file of its own is held meanwhile and ends with its
process, however that dies.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """Hold an exclusive lock on the file `lock` (made if needed), waiting for whoever has it."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove(path: Path) -> None:
    """Remove a file or folder if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def make_once(
    target: Path, locks: Path, make: Callable[[Path], None], is_whole: Callable[[Path], bool] = Path.exists
) -> bool:
    """Call `make` with the path to make unless `target` is whole; return whether it was made now.

    What is there and not whole (made by an older version of the maker) is replaced at the end, not before.
    """
    if is_whole(target):
        return False
    with held(locks / f"{target.name}.lock"):
        if is_whole(target):
            return False
        making, old = target.with_name(f".making-{target.name}"), target.with_name(f".old-{target.name}")
        making.parent.mkdir(parents=True, exist_ok=True)
        for leftover in (making, old):
            remove(leftover)
        try:
            make(making)
        except BaseException:
            remove(making)
            raise
        if target.exists():
            target.rename(old)
        making.rename(target)
        remove(old)
    return True
