"""What a running server does not let in any more; one object that all listeners of a process share."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterable
from contextlib import suppress

from dr.certificates.tls import Peer


class Revocations:
    """Serial numbers of certificates and issuing authorities, in hexadecimal."""

    def __init__(self) -> None:
        self._serials: frozenset[str] = frozenset()
        self._changed = asyncio.Event()

    @property
    def version(self) -> str:
        """Return what tells one list from another."""
        return hashlib.sha256(" ".join(sorted(self._serials)).encode()).hexdigest()[:16]

    @property
    def serials(self) -> frozenset[str]:
        """Return all of them."""
        return self._serials

    def become(self, serials: Iterable[str]) -> bool:
        """Take over a new list; return whether it differs."""
        before, self._serials = self._serials, frozenset(serials)
        if before == self._serials:
            return False
        self._changed.set()
        self._changed = asyncio.Event()
        return True

    async def others(self, known: str, seconds: float) -> None:
        """Return when the version is not the `known` one, or the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self.version == known:
                    await self._changed.wait()

    def __contains__(self, peer: Peer) -> bool:
        return peer.serial in self._serials or peer.issuer in self._serials
