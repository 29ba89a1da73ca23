"""Ask the configuration server as the operator of the site whose folder is at hand (`dr status`, the demo, runs)."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from dr.certificates.tls import client_context
from dr.config_server import settings
from dr.config_server.settings import Address
from dr.errors import Conflict, LifeboatError, NotFound, Refused, Unreachable

ANSWER_SECONDS = 20.0
POLL_SECONDS = 15.0
ENDED = frozenset({"point", "skipped"})
_KINDS = {403: Refused, 404: NotFound, 409: Conflict, 503: Unreachable}


class SiteUnreachable(Unreachable):
    """The configuration server does not answer."""

    code = "site-unreachable"
    remedy = "start `dr serve` on the site's machine; if the site is lost, `dr failover PLAN` needs only the vault"


class SiteClient:
    """Calls of one site; each opens a connection of its own, so it may be kept and shared."""

    def __init__(self, site: Path) -> None:
        self._site = site

    def status(self) -> dict[str, Any]:
        """Return what `docs/formats/status.schema.json` describes. `Unreachable` `site-unreachable`."""
        return self._call("GET", "/v1/status")

    def events(self, *, after: int | None = None, server: str | None = None, limit: int = 100) -> list[dict[str, Any]]:
        """Return the newest events, or the first ones after a number, oldest first (`events.schema.json`)."""
        asked = {"after": after, "server": server, "limit": limit}
        query = urlencode({name: value for name, value in asked.items() if value is not None})
        found: list[dict[str, Any]] = self._call("GET", f"/v1/events?{query}")["events"]
        return found

    def request_cut(self, server: str, *, barrier: bool = False, app_consistent: bool = False) -> str:
        """Ask for a recovery point and return the request's id."""
        wanted = {"barrier": barrier, "app_consistent": app_consistent}
        answer = self._call("POST", f"/v1/servers/{quote(server, safe='')}/cuts", wanted)
        return str(answer["id"])

    def cut(self, server: str, cut: str, *, known: str | None = None, wait: float = 0) -> dict[str, Any]:
        """Return `{"state", "point", "reason"}`, after at most `wait` seconds while the state is `known`."""
        query = urlencode({"wait": wait, **({"known": known} if known else {})})
        return self._call("GET", f"{_cut_path(server, cut)}?{query}", seconds=ANSWER_SECONDS + wait)

    def wait_cut(
        self, server: str, cut: str, *, until: Collection[str] = ENDED, seconds: float = 120
    ) -> dict[str, Any]:
        """Return the first answer whose state is in `until` or final. `Unreachable` `cut-timeout` after `seconds`."""
        deadline = time.monotonic() + seconds
        answer = self.cut(server, cut)
        while answer["state"] not in until and answer["state"] not in ENDED:
            left = deadline - time.monotonic()
            if left <= 0:
                raise Unreachable(
                    f"{server}: the recovery point is {answer['state']} after {seconds:.0f} s",
                    code="cut-timeout",
                    remedy=f"see `dr status {server}`; the request stays open",
                )
            answer = self.cut(server, cut, known=str(answer["state"]), wait=min(left, POLL_SECONDS))
        return answer

    def request_verification(self, server: str) -> str:
        """Ask for a verification pass and return the request's id; the agent names it in its status."""
        return str(self._call("POST", f"/v1/servers/{quote(server, safe='')}/verification", {})["id"])

    def request_resync(self, server: str) -> str:
        """Ask for a resync and return the request's id; the agent names it in its status once it has begun."""
        return str(self._call("POST", f"/v1/servers/{quote(server, safe='')}/resync", {})["id"])

    def release(self, server: str, cut: str) -> None:
        """End the barrier. `Conflict` `cut-ended` when the server did not wait any more."""
        self._call("POST", f"{_cut_path(server, cut)}/release", {})

    def _call(
        self, method: str, path: str, body: object | None = None, *, seconds: float = ANSWER_SECONDS
    ) -> dict[str, Any]:
        address = self._address()
        try:
            context = client_context(
                self._site / "operator/operator.crt", self._site / "operator/operator.key", self._site / "tls/ca.crt"
            )
            connection = http.client.HTTPSConnection(address.listen, address.port, timeout=seconds, context=context)
            try:
                data = None if body is None else json.dumps(body).encode()
                connection.request(method, path, data, {"Content-Type": "application/json"} if data else {})
                response = connection.getresponse()
                document = json.loads(response.read())
            finally:
                connection.close()
        except (OSError, ValueError, http.client.HTTPException) as error:
            cause = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
            raise SiteUnreachable(
                f"the configuration server at {address.listen}:{address.port} does not answer: {cause}"
            ) from error
        if response.status >= 400:
            raise _as_error(response.status, document)
        answer: dict[str, Any] = document
        return answer

    def _address(self) -> Address:
        try:
            found = settings.load(self._site / "config.json").configuration_server
        except settings.WaitingForSite as error:
            raise SiteUnreachable(
                f"there is no site on this machine: {error.message}",
                remedy="`pulumi up --refresh` of the site stack makes it; if the site is lost, `dr failover PLAN` "
                "needs only the vault",
            ) from error
        # Whoever has the site's folder is on the site's machine.
        return Address("127.0.0.1", found.port)


def _as_error(status: int, document: dict[str, Any]) -> LifeboatError:
    fault = document.get("error", {})
    kind = _KINDS.get(status, LifeboatError)
    return kind(str(fault.get("message", status)), code=str(fault.get("code", "")), remedy=str(fault.get("remedy", "")))


def _cut_path(server: str, cut: str) -> str:
    return f"/v1/servers/{quote(server, safe='')}/cuts/{quote(cut, safe='')}"
