"""The vault as a process server uses it: opened when first needed, and again after it was closed.

A process server is known to the vault as `NAME/INSTANCE`. The instance is made with the spool and kept in it, so
that a machine that was rebuilt under the same name, with an empty spool, is another writer.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from dr.compile import names
from dr.durable import make_folder_durably, write_durably
from dr.errors import Corrupt, LifeboatError, NotFound, Unreachable
from dr.process_server.stream import Stream
from dr.vault import fitting
from dr.vault.replica import ReplicaSet
from dr.vault.store import BlobStore

INSTANCE_FILE = "instance"
StoreSource = Callable[[], BlobStore]


@dataclass(frozen=True, slots=True)
class LastWriter:
    """The last writer of a server: epoch 0 and no name when there was none; `disks` are bytes by name."""

    epoch: int
    name: str
    disks: Mapping[str, int] = field(hash=False)


class StoreUnavailable(Unreachable):
    """The vault does not answer; what was received stays in the spool."""

    code = "store-unavailable"
    remedy = "wait: the writer tries again by itself; check the storage account and the way to it"


def instance_name(name: str, spool: Path) -> str:
    """Return who the process server with this spool is; makes the instance when the spool is new."""
    path = spool / INSTANCE_FILE
    if not path.exists():
        make_folder_durably(spool)
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

    def last_writer(self, server: str) -> LastWriter:
        """Return who wrote `server` last, as the vault names it."""
        blob = names.writer_blob(server)
        try:
            found = json.loads(self.store().get(names.REPLICAS, blob)[0])
            return LastWriter(int(found["writer_epoch"]), str(found["process_server"]), fitting.sizes(found["disks"]))
        except NotFound:
            return LastWriter(0, "", {})
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
