"""Certificates over HTTPS: a token becomes one, one is renewed, and what is revoked is told to process servers.

Whoever asks has shown the certificate that decides what is given: the request names nothing but a public key.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from aiohttp import web

from dr import https
from dr.certificates.authority import ENROLMENT
from dr.certificates.revocations import Revocations
from dr.certificates.site import SiteCertificates
from dr.config_server.settings import SiteSettings
from dr.errors import LifeboatError

log = logging.getLogger("dr.certificates")

MAX_WAIT_SECONDS = 60.0
ROLES = ("agent", ENROLMENT, "server", "operator")


def add_calls(
    app: web.Application,
    certificates: SiteCertificates,
    settings: Callable[[], SiteSettings],
    revocations: Revocations,
) -> None:
    """Add the calls to the configuration server's application."""

    async def certify(request: web.Request) -> web.Response:
        https.demand_role(request, *ROLES)
        wanted = (await https.read_json(request)).get("request")
        if not isinstance(wanted, str):
            raise https.RequestInvalid('"request" is not a certificate request in PEM')
        peer = https.caller(request)
        declared = settings()
        call = partial(certificates.certify, peer, wanted.encode(), declared.servers, declared.process_servers)
        try:
            chain = await asyncio.to_thread(call)
        except LifeboatError as error:
            log.warning("no certificate for %s %s: %s", peer.identity.role, peer.identity.name, error.message)
            raise
        log.info("certificate given role=%s name=%s by=%s", peer.identity.role, peer.identity.name, peer.serial)
        return web.json_response({"certificate": chain.decode()})

    async def revoked(request: web.Request) -> web.Response:
        https.demand_role(request, "server", "operator")
        known, wait = request.query.get("known", ""), https.number(request.query.get("wait", "0"), "wait")
        await revocations.others(known, min(wait, MAX_WAIT_SECONDS))
        return web.json_response({"version": revocations.version, "serials": sorted(revocations.serials)})

    app.router.add_post("/v1/certificates", certify)
    app.router.add_get("/v1/revocations", revoked)
