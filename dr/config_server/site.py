"""Both servers of a site in one process, as `dr serve` runs them: waits for the site, follows its changes, ends clean.

| state | means |
| --- | --- |
| waiting-for-site | there is no `site/config.json` yet, or no certificate |
| serving | both servers listen |
| revocations-unknown | what is revoked was not read or heard yet: nobody is let in; the cause is in `serve.json` |
| cannot-listen | an address is in use or the configuration is wrong; tried again, the cause is in `serve.json` |

Rules:
- `serve.json` in the site's folder says which process serves and in which state; it goes when the process ends.
- A changed list of servers and renewed certificates are followed in place; changed ports, accounts, another CA or
  another login at the vault make both listen anew. What is just being written is looked at again before it counts.
- Certificates of the site are renewed here; what is revoked counts within a look, and cuts connections that are open.
  `dr.config_server.keeping` does both, and differs for a process server on a machine of its own.
- Ending needs no store: what is not stored stays in the spool.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import psutil

from dr.certificates.revocations import Revocations
from dr.certificates.site import CA, SERVER
from dr.certificates.tls import server_context
from dr.config_server import settings as site_settings
from dr.config_server.afar import REACH_REMEDY
from dr.config_server.keeping import FarKeeper, Keeper, SiteKeeper
from dr.config_server.server import ConfigurationServer
from dr.config_server.settings import SiteSettings, WaitingForSite
from dr.durable import write_durably
from dr.errors import LifeboatError, Refused
from dr.process_server.server import ProcessServer, ProcessServerSettings
from dr.process_server.vault_side import VaultSide
from dr.target.access import SITE_FILE, site_granted
from dr.target.folders import Folders
from dr.target.login import require_server_login
from dr.target.stores import open_as_site
from dr.vault.store import BlobStore

log = logging.getLogger("dr.site")

LOOK_SECONDS = 0.5
READY_FILE = "serve.json"
UNHEARD = "what is revoked was not heard from the configuration server yet, and nobody is let in before"
CONFIG, CERTIFICATE, KEY = "config.json", f"{SERVER}.crt", f"{SERVER}.key"


@dataclass(frozen=True, slots=True)
class Roles:
    """Which servers this process runs; a process server alone scales a site out."""

    configuration_server: bool = True
    process_server: bool = True


class SiteServers:
    """The servers of one site's folder; `run` until `stop` is set."""

    def __init__(self, folders: Folders, roles: Roles = Roles()) -> None:
        self._folders, self._site, self._roles = folders, folders.site, roles
        self._settings: SiteSettings | None = None
        self._context: ssl.SSLContext | None = None
        self._stamps: tuple[object, ...] = ()  # of what is served
        self._seen: tuple[object, ...] = ()  # of the look before
        self._authority = b""
        self._login: Mapping[str, str] = {}
        self._process_server: ProcessServer | None = None
        self._configuration_server: ConfigurationServer | None = None
        self._state = ""
        self._told = True  # whether serve.json says so
        self._revocations = Revocations()
        self._revocations_known = False
        self._keeper: Keeper = FarKeeper(self._site)
        if roles.configuration_server:
            self._keeper = SiteKeeper(self._site, self._open_vault)

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`. `Refused` `already-serving` when another process serves this folder."""
        self._site.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._lock()
        try:
            while not stop.is_set():
                await self._keep_certificates()
                await self._follow()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await stop.wait()
        finally:
            await self._stop_servers()
            self._keeper.close()
            (self._site / READY_FILE).unlink(missing_ok=True)
            lock.close()
            log.info("ended")

    def _open_vault(self, settings: SiteSettings) -> BlobStore:
        return open_as_site(settings.subscription, settings.storage_account, self._folders)

    def _lock(self) -> IO[bytes]:
        lock = (self._site / "serve.lock").open("wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise Refused(
                f"another process serves {self._site}", code="already-serving", remedy=f"see {self._site / READY_FILE}"
            ) from None
        return lock

    async def _follow(self) -> None:
        """Bring what runs in line with what the folder says."""
        stamps = tuple(_stamp(self._site / name) for name in (CONFIG, CA, CERTIFICATE, KEY, SITE_FILE))
        settled, self._seen = stamps == self._seen or not self._seen, stamps
        if (stamps == self._stamps and self._state == "serving") or not settled:
            return
        try:
            new = site_settings.load(self._site / CONFIG)
            if any(stamp is None for stamp in stamps[:4]):  # on target azure the login is no file
                raise WaitingForSite("the site's certificates are not there yet")
            if not self._revocations_known:
                self._tell("revocations-unknown", *self._why_unknown())
                return
            authority = (self._site / CA).read_bytes()
            same = self._settings is not None and new.same_process(self._settings)
            granted = site_granted(self._site)
            login = granted.containers if granted else {}  # one that was only prolonged is the same
            if same and self._context is not None and (authority, login) == (self._authority, self._login):
                self._context.load_cert_chain(self._site / CERTIFICATE, self._site / KEY)
                await self._change_servers(new)
            else:
                await self._stop_servers()
                await self._start_servers(new)
            self._authority, self._login = authority, login
            self._settings, self._stamps = new, stamps
            self._tell("serving", "", "")
        except WaitingForSite as waiting:
            await self._stop_servers()
            self._tell(waiting.code, waiting.message, waiting.remedy)
        except LifeboatError as error:
            await self._stop_servers()
            self._tell("cannot-listen", error.message, error.remedy)
        except OSError as error:
            await self._stop_servers()
            remedy = "free the address or declare another port; it is tried again"
            self._tell("cannot-listen", error.strerror or str(error), remedy)

    async def _keep_certificates(self) -> None:
        before = self._keeper.fault
        await self._keeper.renew_if_due()
        serials = await self._keeper.revoked()
        self._revocations_known = serials is not None
        if serials is not None and self._revocations.become(serials):
            unwelcome = self._revocations.__contains__
            ended = sum(s.end(unwelcome) for s in (self._configuration_server, self._process_server) if s is not None)
            log.info("revoked are %d certificates, connections ended %d", len(self._revocations.serials), ended)
        await self._keeper.keep()
        if (self._keeper.fault != before or not self._told) and self._state == "serving":
            self._tell("serving", "", "")

    def _why_unknown(self) -> tuple[str, str]:
        cause, remedy = self._keeper.fault
        return (cause, remedy) if cause else (UNHEARD, REACH_REMEDY)

    async def _start_servers(self, new: SiteSettings) -> None:
        require_server_login(new.subscription)
        self._context = context = server_context(self._site / CERTIFICATE, self._site / KEY, self._site / CA)
        source = partial(open_as_site, new.subscription, new.storage_account, self._folders)
        if self._roles.process_server:
            spool = ProcessServerSettings(
                site=new.site,
                name=new.process_server_name,
                listen=new.process_server.listen,
                port=new.process_server.port,
                spool=self._site / "spool",
                spool_key=self._site / "keys" / "spool.key",
            )
            self._process_server = ProcessServer(spool, context, source, self._revocations)
            await self._process_server.start(_epochs(new))
        if self._roles.configuration_server:
            vault = VaultSide(source, new.site, "configuration-server")
            reports = self._process_server.reports if self._process_server else dict
            self._configuration_server = ConfigurationServer(
                new,
                context,
                vault.store,
                reports,
                self._site,
                self._revocations,
                not_in_vault=lambda: self._keeper.not_in_vault,
            )
            await self._configuration_server.start()

    async def _change_servers(self, new: SiteSettings) -> None:
        if self._process_server is not None:
            await self._process_server.protect(_epochs(new))
        if self._configuration_server is not None:
            self._configuration_server.settings = new
        log.info("servers now: %s", ", ".join(sorted(new.servers)) or "none")

    async def _stop_servers(self) -> None:
        self._settings = self._context = None
        servers = (self._configuration_server, self._process_server)
        self._configuration_server = self._process_server = None
        for server in servers:
            if server is not None:
                await server.stop()

    def _tell(self, state: str, cause: str, remedy: str) -> None:
        if state != self._state:
            log.info("state %s%s%s", state, f": {cause}" if cause else "", f"; {remedy}" if remedy else "")
        self._state = state
        document: dict[str, Any] = {
            "pid": os.getpid(),
            "started_at": psutil.Process().create_time(),
            "state": state,
            "cause": cause or self._keeper.fault[0],
            "remedy": remedy or self._keeper.fault[1],
        }
        if self._settings is not None:
            document["configuration_server"] = self._settings.configuration_server.port
            document["process_server"] = self._settings.process_server.port
        text = json.dumps(document).encode()
        ready = self._site / READY_FILE
        try:
            if not ready.exists() or ready.read_bytes() != text:
                write_durably(ready, text)
            self._told = True
        except OSError as error:  # a full disk: the servers go on, above all with what is revoked
            log.warning("%s cannot be written: %s; make room for the site's folder", ready, error)
            self._told = False


def _epochs(settings: SiteSettings) -> dict[str, int]:
    return {name: server.protection_epoch for name, server in settings.servers.items()}


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
