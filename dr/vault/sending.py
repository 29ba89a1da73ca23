"""The requests of a writer: one for each extent, and all of them side by side until the last has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, Executor, wait
from typing import TypeVar

from dr.compile import names
from dr.errors import Conflict
from dr.vault.batch import Extent
from dr.vault.store import BlobStore

T = TypeVar("T")


def store_extent(store: BlobStore, blob: str, extent: Extent, *, lease: str) -> None:
    """Write or clear the pages of one extent. Errors as of the store."""
    if extent.data is None:
        store.clear_pages(names.REPLICAS, blob, extent.offset, extent.length, lease=lease)
    else:
        store.write_pages(names.REPLICAS, blob, extent.offset, extent.data, lease=lease)


def run_all(threads: Executor, calls: Iterable[Callable[[], T]]) -> list[T]:
    """Run all calls and return their results, in order; after a failure none of them is still running.

    Raises what one of them raised, a `Conflict` before anything else: a lost lease explains the others.
    """
    running = [threads.submit(call) for call in calls]
    wait(running, return_when=FIRST_EXCEPTION)
    for future in running:
        future.cancel()
    wait(running)
    failures = [error for f in running if not f.cancelled() and (error := f.exception()) is not None]
    if failures:
        raise next((error for error in failures if isinstance(error, Conflict)), failures[0])
    return [future.result() for future in running]
