"""Who keeps the certificates of a running `dr serve`, and knows what is revoked.

`SiteKeeper`, where the configuration server is: renews the servers' certificate and the operator's by the issuing
authority in the folder, reads the register in it, and has the vault keep what is revoked (`dr.vault.revocations`).
`FarKeeper`, on the machine of a process server alone: asks the configuration server for both, and keeps a question open
until there is news.

Neither guesses: until the list was read or heard once, what is revoked is not known, and nobody may be let in.
What keeps one from its work is in `fault` and `remedy`, and the work is tried again; `serve.json` shows them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path

from dr.certificates.site import ISSUING, REGISTER, SiteCertificates
from dr.config_server import afar
from dr.config_server import settings as site_settings
from dr.config_server.settings import SiteSettings, WaitingForSite
from dr.errors import LifeboatError
from dr.vault import revocations
from dr.vault.store import BlobStore

log = logging.getLogger("dr.keeping")

RENEW_LOOK_SECONDS = 60.0
AGAIN_SECONDS = 5.0
POLL_SECONDS = 20
NOT_IN_VAULT = "revocations-not-kept"
VAULT_REMEDY = (
    "see that the vault answers; a vault of an older Lifeboat wants `pulumi up` of the vault stack, then `pulumi up "
    "--refresh` of the site stack"
)
KEEPING_REMEDY = "make room for this server's folder and see that it can be written"


class Keeper(ABC):
    """One site's folder; belongs to one event loop."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._next_renewal = 0.0
        self._faults: dict[str, tuple[str, str]] = {}

    @property
    def fault(self) -> tuple[str, str]:
        """Return cause and remedy of what does not work, empty when all does."""
        return next(iter(self._faults.values()), ("", ""))

    async def renew_if_due(self) -> None:
        """Renew what is due, once a minute."""
        if time.monotonic() < self._next_renewal:
            return
        self._next_renewal = time.monotonic() + RENEW_LOOK_SECONDS
        try:
            await asyncio.to_thread(self._renew)
        except LifeboatError as error:
            self._failed("renewal", error.message, error.remedy)
        except OSError as error:
            self._failed("renewal", f"certificates cannot be renewed: {error}", "make room for the site's folder")
        else:
            self._faults.pop("renewal", None)
            return
        self._next_renewal = time.monotonic() + AGAIN_SECONDS

    @property
    def not_in_vault(self) -> tuple[str, str]:
        """Return cause and remedy of a revocation that the vault does not keep, empty when it keeps all."""
        return self._faults.get(NOT_IN_VAULT, ("", ""))

    def _failed(self, work: str, fault: str, remedy: str) -> None:
        if self._faults.get(work) != (fault, remedy):
            log.warning("%s; %s", fault, remedy)
        self._faults[work] = fault, remedy

    @abstractmethod
    def close(self) -> None:
        """End what is under way."""

    @abstractmethod
    def _renew(self) -> None:
        """Renew; blocks."""

    @abstractmethod
    async def revoked(self) -> frozenset[str] | None:
        """Return the serial numbers that are revoked, None while nobody knows them (`fault` tells why); quick."""

    @abstractmethod
    async def keep(self) -> None:
        """Keep what `revoked` returned; called when it counts already: a full disk must not let anybody in."""


class SiteKeeper(Keeper):
    """On the site's own machine; `vault` opens the store of a site as one of its servers."""

    def __init__(self, folder: Path, vault: Callable[[SiteSettings], BlobStore]) -> None:
        super().__init__(folder)
        self._vault = vault
        self._in_vault: frozenset[str] | None = None  # what the vault is known to keep
        self._copying: asyncio.Task[frozenset[str]] | None = None
        self._next_copy = 0.0
        self._certificates = SiteCertificates(folder)
        self._stamp: object = None
        self._serials: frozenset[str] | None = None

    def _renew(self) -> None:
        if (self._folder / ISSUING).exists():  # before the first `up` there is nothing to renew
            for stem in self._certificates.renew():
                log.info("certificate renewed %s", stem)

    async def revoked(self) -> frozenset[str] | None:
        path = self._folder / REGISTER
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino) if path.exists() and (found := path.stat()) else None
        if stamp != self._stamp and stamp is not None:
            try:
                listed = await asyncio.to_thread(self._certificates.register.revoked)
            except LifeboatError as error:
                self._failed("revocations", error.message, error.remedy)
                return self._serials  # nobody who was revoked comes in again
            self._faults.pop("revocations", None)
            self._serials, self._stamp = frozenset(each.serial for each in listed), stamp
            self._next_renewal = 0.0  # it may be one of ours
        elif stamp is None and self._serials is None:
            self._serials = frozenset()  # a site that has given no certificate yet
        return self._serials

    async def keep(self) -> None:
        """Have the vault keep it too, in the background: the register lies on a disk that may burn."""
        if self._copying is not None and self._copying.done():
            copied, self._copying = self._copying, None
            self._note_copy(copied)
        due = self._serials is not None and self._in_vault != self._serials and time.monotonic() >= self._next_copy
        if self._copying is not None or not due or not (self._folder / REGISTER).exists():
            return
        try:
            settings = site_settings.load(self._folder / "config.json")
        except WaitingForSite:
            return
        except LifeboatError:
            return  # `serve.json` names it: nothing listens before it is mended
        self._copying = asyncio.create_task(asyncio.to_thread(partial(self._copy, settings)))

    def close(self) -> None:
        if self._copying is not None:
            self._copying.cancel()
            self._copying.add_done_callback(lambda copied: copied.cancelled() or copied.exception())

    def _copy(self, settings: SiteSettings) -> frozenset[str]:
        revoked = self._certificates.register.revoked()
        store = self._vault(settings)
        try:
            count = revocations.keep(store, settings.site, revoked)
        finally:
            store.close()
        if count:
            log.info("the vault keeps %d more revocations", count)
        return frozenset(each.serial for each in revoked)

    def _note_copy(self, copied: asyncio.Task[frozenset[str]]) -> None:
        try:
            self._in_vault = copied.result()
        except LifeboatError as error:
            message = f"what is revoked is on this machine only, the vault does not keep it: {error.message}"
            self._failed(NOT_IN_VAULT, message, error.remedy or VAULT_REMEDY)
            self._next_copy = time.monotonic() + AGAIN_SECONDS
        else:
            self._faults.pop(NOT_IN_VAULT, None)


class FarKeeper(Keeper):
    """On the machine of a process server alone."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._known: tuple[str, frozenset[str]] | None = None
        self._kept_read = False
        self._kept = ""  # the version that the file holds
        self._next_keeping = 0.0
        self._asking: asyncio.Task[tuple[str, frozenset[str]]] | None = None
        self._next_question = 0.0

    def _renew(self) -> None:
        address = site_settings.load(self._folder / "config.json").configuration_server
        if afar.renew(self._folder, address):
            log.info("certificate renewed")

    async def revoked(self) -> frozenset[str] | None:
        if not self._kept_read:
            self._known, self._kept_read = await self._as_kept(), True
        if self._asking is not None and self._asking.done():
            asked, self._asking = self._asking, None
            try:
                self._known = asked.result()
                self._faults.pop("revocations", None)
            except LifeboatError as error:
                self._failed("revocations", f"what is revoked is not heard: {error}", error.remedy)
                self._next_question = time.monotonic() + AGAIN_SECONDS
        if self._asking is None and time.monotonic() >= self._next_question:
            self._asking = asyncio.create_task(self._ask(self._known[0] if self._known else ""))
        return self._known and self._known[1]

    def close(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            # Nobody hears the answer any more, whatever it is.
            self._asking.add_done_callback(lambda asked: asked.cancelled() or asked.exception())

    async def _as_kept(self) -> tuple[str, frozenset[str]] | None:
        try:
            kept = await asyncio.to_thread(afar.kept_revocations, self._folder)
        except (LifeboatError, OSError) as error:
            remedy = error.remedy if isinstance(error, LifeboatError) else KEEPING_REMEDY
            self._failed("keeping", f"what was revoked is not known: {error}", remedy)
            return None
        self._kept = kept[0] if kept else ""
        return kept

    async def keep(self) -> None:
        if self._known is None or self._known[0] == self._kept or time.monotonic() < self._next_keeping:
            return
        version, serials = self._known
        try:
            await asyncio.to_thread(afar.keep_revocations, self._folder, version, serials)
        except OSError as error:
            message = f"what is revoked cannot be kept, and a restart would forget it: {error}"
            self._failed("keeping", message, KEEPING_REMEDY)
            self._next_keeping = time.monotonic() + AGAIN_SECONDS
        else:
            self._kept = version
            self._faults.pop("keeping", None)

    async def _ask(self, known: str) -> tuple[str, frozenset[str]]:
        address = site_settings.load(self._folder / "config.json").configuration_server
        return await asyncio.to_thread(afar.ask_revocations, self._folder, address, known, POLL_SECONDS)
