"""Room in memory for digest tables: what one agent says of its disks must not end the process for all servers.

A table takes 16 bytes for each 64 KiB of disk, and twice that while it is read. Half of the machine's memory is for
tables; half of that is kept for the servers in equal shares, the rest is for whoever comes first, as in the spool.
"""

from __future__ import annotations

from collections.abc import Iterable

import psutil

from dr.chunk import CHUNK_BYTES, ENTRY_BYTES
from dr.errors import Refused

MIB = 1 << 20


class TablesTooLarge(Refused):
    """The digest tables of a server do not fit beside those of the others."""

    code = "tables-too-large"
    remedy = (
        "if the server has disks of this size, give the process server more memory or let another one serve it; "
        "if it has not, somebody else holds its certificate: `dr revoke` the server"
    )


class TableRoom:
    """Who takes how much; belongs to one event loop. `limit_bytes`: half of the machine's memory when not given."""

    def __init__(self, limit_bytes: int | None = None) -> None:
        self._limit_bytes = psutil.virtual_memory().total // 2 if limit_bytes is None else limit_bytes
        self._used: dict[str, int] = {}
        self._sharing: frozenset[str] = frozenset()

    def share_among(self, servers: Iterable[str]) -> None:
        """Keep a share for each of `servers`, and forget all others."""
        self._sharing = frozenset(servers)
        self._used = {server: used for server, used in self._used.items() if server in self._sharing}

    def take(self, server: str, disk_bytes: int) -> None:
        """Take room for a server's disks in place of what it had. `TablesTooLarge`; then it keeps what it had."""
        needed = 2 * ENTRY_BYTES * -(-disk_bytes // CHUNK_BYTES)
        others = self._sharing - {server}
        share = self._limit_bytes // (2 * max(1, len(self._sharing)))
        free = self._limit_bytes - sum(max(share, self._used.get(other, 0)) for other in others)
        if needed > max(share, free):
            raise TablesTooLarge(
                f"{server}: the digests of {disk_bytes} bytes of disk take {needed // MIB} MiB of memory, "
                f"{max(share, free) // MIB} MiB are free for them"
            )
        self._used[server] = needed
