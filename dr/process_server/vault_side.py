"""The vault as a process server uses it: opened when first needed, and again after it was closed.

A process server is known to the vault as `NAME/INSTANCE`. The instance is made with the spool and kept in it, so
that a machine that was rebuilt under the same name, with an empty spool, is another writer.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from dr.compile import names
from dr.durable import write_durably
from dr.errors import Corrupt, LifeboatError, NotFound, Unreachable
from dr.process_server.stream import Stream
from dr.vault import fitting
from dr.vault.replica import ReplicaSet
from dr.vault.store import BlobStore

INSTANCE_FILE = "instance"
StoreSource = Callable[[], BlobStore]
T = TypeVar("T")


class StoreUnavailable(Unreachable):
    """The vault does not answer; what was received stays in the spool."""

    code = "store-unavailable"
    remedy = "wait: the writer tries again by itself; check the storage account and the way to it"


def instance_name(name: str, spool: Path) -> str:
    """Return who the process server with this spool is; makes the instance when the spool is new."""
    path = spool / INSTANCE_FILE
    if not path.exists():
        spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(path, secrets.token_hex(8).encode(), mode=0o600)
    return f"{name}/{path.read_text().strip()}"


class VaultSide:
    """Opens replicas in the name of one process server. Thread-safe; its calls block."""

    def __init__(self, source: StoreSource, site: str, writer: str) -> None:
        self.site = site
        self.writer = writer
        self._source = source
        self._store: BlobStore | None = None
        self._lock = threading.Lock()

    def store(self) -> BlobStore:
        """Return the open store. `StoreUnavailable` whatever keeps it from being opened."""
        with self._lock:
            if self._store is None:
                try:
                    self._store = self._source()
                except LifeboatError as error:
                    raise StoreUnavailable(error.message, remedy=error.remedy or None) from error
            return self._store

    def last_writer(self, server: str) -> tuple[int, str]:
        """Return the writer epoch and the process server that the vault names for `server`; (0, "") when none."""
        return self._writer(server, lambda found: (int(found["writer_epoch"]), str(found["process_server"])), (0, ""))

    def last_disks(self, server: str) -> dict[str, int]:
        """Return the bytes of each disk that the replica of `server` was opened with last; empty when it never was."""
        return self._writer(server, lambda found: fitting.sizes(found["disks"]), {})

    def _writer(self, server: str, what: Callable[[Any], T], otherwise: T) -> T:
        blob = names.writer_blob(server)
        try:
            return what(json.loads(self.store().get(names.REPLICAS, blob)[0]))
        except NotFound:
            return otherwise
        except (ValueError, KeyError, TypeError) as error:
            raise Corrupt(f"{blob} is not readable: {error}", code="replica-incomplete") from error

    def open(self, server: str, stream: Stream) -> ReplicaSet:
        """Become the writer of `server`; errors as `ReplicaSet.open`."""
        return ReplicaSet.open(
            self.store(),
            server,
            site=self.site,
            protection_epoch=stream.protection_epoch,
            process_server=self.writer,
            disks=stream.disks,
            facts=stream.facts,
            clock=lambda: datetime.now(UTC),
        )

    def close(self) -> None:
        """Close the store's connections."""
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None
