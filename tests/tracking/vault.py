"""The vault of the proof: a store in this process's memory that process servers of their own reach through a gate each.

A gate can be shut (its process server is cut off from the store), and it can stop a call in its middle, so that the
process server is killed exactly there.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

from dr.compile import names
from dr.errors import Unreachable
from dr.vault.digests import CHUNK_BYTES, UNKNOWN, DigestTable, digest, table_blob_size
from dr.vault.memory import MemoryBlobStore
from dr.vault.store import BlobStore

Hook = Callable[[str, tuple[Any, ...]], None]


class Gate:
    """One process server's way to the store."""

    def __init__(self, store: MemoryBlobStore) -> None:
        self._store = store
        self.shut = False
        self.hook: Hook | None = None
        self.after: Hook | None = None  # when it is done, and nobody has heard the answer

    def call(self, operation: str, args: tuple[Any, ...], named: dict[str, Any]) -> tuple[bool, Any]:
        """Do an operation of the store; return whether it answered with an iterator, and what."""
        if self.shut:
            raise Unreachable("the store does not answer", code="store-unavailable")
        if self.hook is not None:
            self.hook(operation, args)
        found = getattr(self._store, operation)(*args, **named)
        if self.after is not None:
            self.after(operation, args)
        return (True, list(found)) if isinstance(found, Iterator) else (False, found)


class _Manager(BaseManager):
    pass


class Vault:
    """Serves the gates on a socket until the process ends."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryBlobStore()
        self.gates: dict[str, Gate] = {}
        self.key = secrets.token_hex(16)
        self.address = str(folder / "vault")
        _Manager.register("gate", callable=self._gate, exposed=("call",))
        self._server = _Manager(self.address, self.key.encode()).get_server()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Take the socket away; its folder goes next."""
        self._server.listener.close()  # type: ignore[attr-defined]  # of the standard library, not in its stubs

    def _gate(self, name: str) -> Gate:
        return self.gates[name]

    def open_gate(self, name: str) -> Gate:
        """Return a new gate for the process server `name`; an older one of it stays shut for ever."""
        if name in self.gates:
            self.gates[name].shut = True
        self.gates[name] = Gate(self.store)
        return self.gates[name]

    def replica(self, server: str, disk: str, size: int) -> bytes:
        blob = names.replica_blob(server, disk)
        return b"".join(
            self.store.read(names.REPLICAS, blob, offset, min(4 << 20, size - offset))
            for offset in range(0, size, 4 << 20)
        )

    def false_digests(self, server: str, disk: str, size: int) -> list[int]:
        """Return the chunks whose digest claims what the pages are not; call it while no process server writes."""
        blob = names.digests_blob(server, disk)
        table = DigestTable(size, self.store.read(names.REPLICAS, blob, 0, table_blob_size(size)))
        content = self.replica(server, disk, size)
        claims = ((chunk, table.entry(chunk)) for chunk in range(table.chunks))
        return [
            chunk
            for chunk, entry in claims
            if entry not in (UNKNOWN, digest(content[chunk * CHUNK_BYTES : (chunk + 1) * CHUNK_BYTES]))
        ]


class RemoteStore:
    """A `BlobStore` behind a gate of another process."""

    def __init__(self, gate: Any) -> None:
        self._gate = gate

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        def call(*args: Any, **named: Any) -> Any:
            try:
                iterator, found = self._gate.call(operation, args, named)
            except (EOFError, OSError) as error:
                raise Unreachable(f"the store does not answer: {error}", code="store-unavailable") from error
            return iter(found) if iterator else found

        return call

    def close(self) -> None:
        """Nothing is held."""


def remote_store(address: str, key: str, name: str) -> BlobStore:
    """Connect to the gate `name` of the vault at `address`."""
    _Manager.register("gate")
    manager = _Manager(address, key.encode())
    manager.connect()
    store: BlobStore = RemoteStore(manager.gate(name))  # type: ignore[attr-defined]  # register made the method
    return store
