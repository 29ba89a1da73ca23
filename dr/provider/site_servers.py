"""`dr:index:SiteServers`: what `dr serve` needs on the site's machine: `config.json`, its certificates, the operator's.

Rules:
- `config.json` is written last and removed first: `dr serve` waits for it, so it never sees half a site.
- Keys are made here and written to files of mode 0600; the state knows only when the issuing authority ends. It is
  made anew when a name or address changes, when it is missing or revoked, and 60 days before it ends; the certificates
  that it signs are renewed by their holders.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from dr.certificates.lifetime import ISSUING_RENEWED_LEFT
from dr.certificates.site import FILES, SiteCertificates
from dr.durable import sync_folder, write_durably
from dr.errors import LifeboatError, PrerequisiteMissing, Refused
from dr.provider.certificate_authority import open_authority
from dr.provider.resource import Properties, ResourceType, Session
from dr.provider.site_answer import site_answer
from dr.provider.world import World
from dr.target.folders import LOCAL_SUBSCRIPTION

SERVE_WAIT_SECONDS = 30.0
SERVE_POLL_SECONDS = 0.5


class SiteServers(ResourceType):
    name = "SiteServers"
    required = (
        "site",
        "subscription",
        "storageAccount",
        "certificateAuthority",
        "configurationServer",  # "address:port"
        "processServers",  # [{"name", "address"}], address is "address:port"
        "servers",  # {NAME: {"protection_epoch", "rpo_threshold_seconds", …}} as config.json has them
    )
    in_place = frozenset({"configurationServer", "processServers", "servers", "storageAccount"})
    unclear = frozenset({"issuingUntil"})

    def __init__(self, world: World, *, wait_seconds: float = SERVE_WAIT_SECONDS) -> None:
        self._world = world
        self._wait_seconds = wait_seconds

    def due(self, state: Properties) -> str | None:
        until = state.get("issuingUntil")
        if until is None or self._world.now() + ISSUING_RENEWED_LEFT >= datetime.fromisoformat(until):
            return "issuingUntil"
        try:
            return "issuingUntil" if self._certificates().issuing_revoked else None
        except PrerequisiteMissing:
            return None  # the site's folder is gone, and a refresh says so

    def create(self, inputs: Properties, session: Session) -> tuple[str, Properties]:
        until = self._write(inputs, session)
        return inputs["site"], {**inputs, "issuingUntil": until}

    def read(self, resource_id: str, state: Properties, session: Session) -> Properties | None:
        folder = self._world.site
        try:
            config = json.loads((folder / "config.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        if not all((folder / name).is_file() for name in FILES):
            return {name: value for name, value in state.items() if name != "issuingUntil"}
        return {**state, **_actual(config, state)}

    def update(self, resource_id: str, state: Properties, inputs: Properties, session: Session) -> Properties:
        return {**inputs, "issuingUntil": self._write(inputs, session)}

    def delete(self, resource_id: str, state: Properties, session: Session) -> None:
        folder = self._world.site
        for name in ("config.json", *FILES):
            (folder / name).unlink(missing_ok=True)

    def _write(self, inputs: Properties, session: Session) -> str:
        folder = self._world.site
        _require_same_site(folder / "config.json", inputs["site"])
        until = self._prepare(inputs)
        config = json.dumps(configuration(inputs), indent=2, sort_keys=True).encode() + b"\n"
        write_durably(folder / "config.json", config)
        sync_folder(folder)
        self._await_servers(inputs, session)
        return until

    def _certificates(self) -> SiteCertificates:
        return SiteCertificates(self._world.site, self._world.now)

    def _prepare(self, inputs: Properties) -> str:
        """Make the certificates that are missing or do not fit; return when the issuing authority ends."""
        root = open_authority(self._world.key_store(inputs["subscription"]), inputs["certificateAuthority"])
        servers = inputs["processServers"]
        hosts = {_host(inputs["configurationServer"]), *(_host(server["address"]) for server in servers), "127.0.0.1"}
        name = servers[0]["name"] if servers else inputs["site"]
        end = self._certificates().prepare(root, site=inputs["site"], server=name, addresses=sorted(hosts))
        return end.isoformat()

    def _await_servers(self, inputs: Properties, session: Session) -> None:
        port = _port(inputs["configurationServer"])
        deadline = time.monotonic() + self._wait_seconds
        while True:
            reason = self._ask(port)
            if reason is None:
                return
            if time.monotonic() >= deadline or session.cancelled.is_set():
                session.warn(
                    f"the configuration server does not answer on port {port} ({reason}): nothing is replicated until "
                    "it does. Remedy: start `dr serve` on the site's machine"
                )
                return
            session.progress(f"waiting for the configuration server on port {port}: {reason}")
            session.cancelled.wait(SERVE_POLL_SECONDS)

    def _ask(self, port: int) -> str | None:
        """Return why the configuration server does not answer with the certificates just written, or None."""
        try:
            site_answer(self._world.site, port)
        except LifeboatError as error:
            return error.message
        return None


def configuration(inputs: Properties) -> dict[str, Any]:
    """Return the content of `config.json`, as `dr serve` reads it."""
    # On target local everything stays on the loopback interface; a guest reaches that through its own gateway.
    listen = "127.0.0.1" if inputs["subscription"] == LOCAL_SUBSCRIPTION else "0.0.0.0"  # noqa: S104 - a real site's server
    process_server = inputs["processServers"][0]
    return {
        "site": inputs["site"],
        "subscription": inputs["subscription"],
        "storage_account": inputs["storageAccount"],
        "configuration_server": {
            "listen": listen,
            "port": _port(inputs["configurationServer"]),
            "host": _host(inputs["configurationServer"]),
        },
        "process_server": {
            "name": process_server["name"],
            "listen": listen,
            "port": _port(process_server["address"]),
        },
        "process_servers": [server["name"] for server in inputs["processServers"]],
        "servers": {name: dict(values) for name, values in inputs["servers"].items()},
    }


def _actual(config: Mapping[str, Any], state: Properties) -> Properties:
    """Return the inputs that `config.json` differs in from what was declared, as they are there."""
    declared = configuration(state)
    if config == declared:
        return {}
    differing: dict[str, Any] = {}
    if config.get("servers") != declared["servers"]:
        differing["servers"] = config.get("servers") or {}
    if config.get("storage_account") != declared["storage_account"]:
        differing["storageAccount"] = config.get("storage_account") or ""
    if not differing:
        differing["servers"] = {}
    return differing


def _require_same_site(config: Path, site: str) -> None:
    """Raise `Refused` when the folder serves another site: its agents would find strangers' certificates."""
    try:
        held = json.loads(config.read_bytes())["site"]
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return
    if held != site:
        raise Refused(
            f'{config} is of site "{held}"; site "{site}" cannot be served from the same folder',
            code="other-site",
            remedy=f'a site cannot be renamed: put the name "{held}" back, or destroy its site stack first',
        )


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])
