"""The configuration server's HTTP interface, `/v1`; described in `docs/formats/configuration-server-api.md`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from dr import https
from dr.certificates.revocations import Revocations
from dr.certificates.site import SiteCertificates
from dr.config_server import certificate_states, certificates, groups
from dr.config_server.cuts import Cut, CutDesk, CutState
from dr.config_server.events import EventLog
from dr.config_server.health import Left, NamedState, Newest, server_document, status_document
from dr.config_server.heartbeats import Heartbeats, check_status
from dr.config_server.keeping import NOT_IN_VAULT
from dr.config_server.resyncs import ResyncDesk
from dr.config_server.settings import ServerSettings, SiteSettings
from dr.config_server.traffic import limits_at
from dr.config_server.verifications import VerificationDesk
from dr.errors import NotFound
from dr.https import RequestInvalid, number
from dr.process_server.states import WriterReport
from dr.target.access import SITE_ENDING_DAYS
from dr.vault.manifest import format_time

MAX_WAIT_SECONDS = 60.0
MAX_EVENTS = 1000  # of one answer


@dataclass(frozen=True, slots=True)
class Desk:
    """What the interface works on; everything is asked at the time of the call."""

    settings: Callable[[], SiteSettings]
    heartbeats: Heartbeats
    cuts: CutDesk
    resyncs: ResyncDesk
    verifications: VerificationDesk
    events: EventLog
    newest: Callable[[str], Awaitable[Newest]]
    newest_shared: Callable[[str], Awaitable[groups.NewestShared]]
    certificates: SiteCertificates
    revocations: Revocations
    writers: Callable[[], Mapping[str, WriterReport]]
    left: Callable[[], Awaitable[Left]]
    access_ends: Callable[[], datetime | None]  # when the site's login at the vault ends; None: it is not a file
    not_in_vault: Callable[[], tuple[str, str]]  # cause and remedy of revocations that the vault does not keep
    now: Callable[[], datetime]


def application(site: str, desk: Desk) -> web.Application:
    """Return the application of one site."""
    app = https.application(site, revocations=desk.revocations)
    _add_agent_calls(app, desk)
    _add_operator_calls(app, desk)
    certificates.add_calls(app, desk.certificates, desk.settings, desk.revocations)
    return app


def _add_agent_calls(app: web.Application, desk: Desk) -> None:
    async def heartbeat(request: web.Request) -> web.Response:
        server = _own_server(request, desk)
        status = await https.read_json(request)
        check_status(server.name, status)
        desk.heartbeats.note(server.name, status, desk.now())
        desk.resyncs.heard(server.name, status.get("resync_request"))
        desk.verifications.heard(server.name, status.get("verification"), desk.now())
        cut = desk.cuts.next_for(server.name)
        limits = limits_at(server.traffic, desk.now())
        waits = limits.resync_waits_until
        policy = {
            "bandwidth_bytes_per_second": limits.bandwidth_bytes_per_second,
            "resync_waits_until": None if waits is None else waits.isoformat(timespec="minutes"),
            "crash_consistent_seconds": server.crash_consistent_seconds,
            "app_consistent_seconds": server.app_consistent_seconds,
            "rpo_threshold_seconds": server.rpo_threshold_seconds,
            "retention_seconds": server.retention_seconds,
        }
        return web.json_response(
            {
                "policy": policy,
                "cut_request": None if cut is None else _request_document(cut),
                "resync_request": desk.resyncs.pending(server.name),
                "verification_request": desk.verifications.pending(server.name, server.verify_seconds, desk.now()),
                "protection_epoch": server.protection_epoch,
                **_group_part(request, server, desk),
            }
        )

    async def frozen(request: web.Request) -> web.Response:
        cut = desk.cuts.find(_own_server(request, desk).name, request.match_info["cut"])
        released = await desk.cuts.hold(cut, seconds(request.query.get("wait", "0")))
        return web.json_response({"released": released})

    async def result(request: web.Request) -> web.Response:
        cut = desk.cuts.find(_own_server(request, desk).name, request.match_info["cut"])
        document = await https.read_json(request)
        match document.get("outcome"):
            case "sent":
                warning = document.get("reason")
                sent = number(document.get("number"), "number", lowest=1)
                desk.cuts.sent(cut, sent, None if warning is None else _reason(warning))
            case "skipped":
                desk.cuts.skipped(cut, _reason(document.get("reason")))
            case _:
                raise RequestInvalid('"outcome" is neither "sent" nor "skipped"')
        return web.json_response({"state": cut.state.value})

    app.router.add_post("/v1/agents/{server}/heartbeat", heartbeat)
    app.router.add_post("/v1/agents/{server}/cuts/{cut}/frozen", frozen)
    app.router.add_post("/v1/agents/{server}/cuts/{cut}/result", result)


def _group_part(request: web.Request, server: ServerSettings, desk: Desk) -> dict[str, Any]:
    """Tell a member of a group who the others are, and who must not be let in any more if it does not know."""
    group = groups.told(desk.settings().servers, server.name)
    known = group is None or request.query.get("revocations") == desk.revocations.version
    serials = {"version": desk.revocations.version, "serials": sorted(desk.revocations.serials)}
    return {"group": group, "revocations": None if known else serials}


def _add_operator_calls(app: web.Application, desk: Desk) -> None:
    async def status(request: web.Request) -> web.Response:
        https.demand_role(request, "operator")
        return web.json_response(await site_document(desk))

    async def events(request: web.Request) -> web.Response:
        https.demand_role(request, "operator")
        after, server = request.query.get("after"), request.query.get("server")
        limit = number(request.query.get("limit", "100"), "limit", lowest=1, highest=MAX_EVENTS)
        seen = None if after is None else number(after, "after")
        found = await asyncio.to_thread(desk.events.read, after=seen, server=server, limit=limit)
        return web.json_response({"events": [event.document() for event in found]})

    async def request_cut(request: web.Request) -> web.Response:
        https.demand_role(request, "operator")
        server = _server(request, desk)
        document = await https.read_json(request)
        barrier, app_consistent = _truth(document, "barrier"), _truth(document, "app_consistent")
        cut = desk.cuts.request(server.name, barrier=barrier, app_consistent=app_consistent)
        return web.json_response({"id": cut.id})

    async def get_cut(request: web.Request) -> web.Response:
        https.demand_role(request, "operator")
        cut = desk.cuts.find(_server(request, desk).name, request.match_info["cut"])
        await desk.cuts.wait_changed(cut, _known(request, cut), seconds(request.query.get("wait", "0")))
        return web.json_response(cut.document())

    async def request_resync(request: web.Request) -> web.Response:
        https.demand_role(request, "operator")
        return web.json_response({"id": desk.resyncs.request(_server(request, desk).name)})

    async def request_verification(request: web.Request) -> web.Response:
        https.demand_role(request, "operator")
        return web.json_response({"id": desk.verifications.request(_server(request, desk).name)})

    async def release(request: web.Request) -> web.Response:
        https.demand_role(request, "operator")
        cut = desk.cuts.find(_server(request, desk).name, request.match_info["cut"])
        desk.cuts.release(cut)
        return web.json_response(cut.document())

    app.router.add_get("/v1/status", status)
    app.router.add_get("/v1/events", events)
    app.router.add_post("/v1/servers/{server}/cuts", request_cut)
    app.router.add_get("/v1/servers/{server}/cuts/{cut}", get_cut)
    app.router.add_post("/v1/servers/{server}/cuts/{cut}/release", release)
    app.router.add_post("/v1/servers/{server}/resync", request_resync)
    app.router.add_post("/v1/servers/{server}/verification", request_verification)


async def site_document(desk: Desk) -> dict[str, Any]:
    """Return the status of the site and of all its servers; schema `docs/formats/status.schema.json`."""
    writers, servers = desk.writers(), {}
    known = await asyncio.to_thread(certificate_states.look, desk.certificates, desk.now())
    for name, settings in sorted(desk.settings().servers.items()):
        newest = await desk.newest(name)
        beat = desk.heartbeats.latest(name)
        about = certificate_states.agent_states(name, known, desk.now())
        servers[name] = server_document(
            settings, beat, newest, writers.get(name), desk.now(), about, desk.verifications.last(name)
        )
    states = [
        *_site_states(desk.heartbeats.unsaved or desk.verifications.unsaved or desk.events.unsaved),
        *certificate_states.site_states(known, desk.now()),
        *access_states(desk.access_ends(), desk.now()),
        *_not_kept(*desk.not_in_vault()),
    ]
    declared, left = desk.settings(), await desk.left()
    shared = {name: await _group(name, desk) for name in groups.groups_of(declared.servers)}
    document = status_document(declared.site, "configuration-server", states, servers, desk.now(), left, groups=shared)
    return {**document, "certificates": certificate_states.document(known, desk.now())}


async def _group(name: str, desk: Desk) -> dict[str, Any]:
    servers = desk.settings().servers
    beats = {member: desk.heartbeats.latest(member) for member in groups.members_of(servers, name)}
    return groups.group_document(name, servers, beats, await desk.newest_shared(name), desk.now())


def _site_states(unsaved: str) -> list[NamedState]:
    if not unsaved:
        return []
    remedy = "make room for the site's folder: the spool lies there as well, and a full one stops replication"
    return [NamedState("site-folder-unwritable", unsaved, remedy)]


def _not_kept(cause: str, remedy: str) -> list[NamedState]:
    return [NamedState(NOT_IN_VAULT, cause, remedy)] if cause else []


def access_states(until: datetime | None, now: datetime) -> list[NamedState]:
    """Return the state of a login at the vault that ends soon, or has ended."""
    if until is None or until - now > timedelta(days=SITE_ENDING_DAYS):
        return []
    ends = f"ends at {format_time(until)}" if until > now else f"ended at {format_time(until)}"
    message = f"the site's login at the vault {ends}; without one nothing is stored"
    return [NamedState("vault-access-ending", message, "run `pulumi up` of the site stack, which prolongs it")]


def seconds(text: str) -> float:
    """Return a waiting time of a query, at most `MAX_WAIT_SECONDS`. `RequestInvalid`."""
    try:
        value = float(text)
    except ValueError:
        raise RequestInvalid('"wait" is not a number of seconds') from None
    if not value >= 0:  # also refuses NaN
        raise RequestInvalid('"wait" is negative')
    return min(value, MAX_WAIT_SECONDS)


def _request_document(cut: Cut) -> dict[str, object]:
    return {"id": cut.id, "barrier": cut.barrier, "app_consistent": cut.app_consistent}


def _truth(document: Mapping[str, Any], key: str) -> bool:
    value = document.get(key, False)
    if not isinstance(value, bool):
        raise RequestInvalid(f'"{key}" is neither true nor false')
    return value


def _known(request: web.Request, cut: Cut) -> CutState:
    text = request.query.get("known")
    if text is None:
        return cut.state
    try:
        return CutState(text)
    except ValueError:
        raise RequestInvalid('"known" is no state of a cut') from None


def _own_server(request: web.Request, desk: Desk) -> ServerSettings:
    https.demand_agent_of(request, request.match_info["server"])
    return _server(request, desk)


def _server(request: web.Request, desk: Desk) -> ServerSettings:
    name = request.match_info["server"]
    settings = desk.settings().servers.get(name)
    if settings is None:
        raise NotFound(
            f'server "{name}" is not protected by this site',
            code="unknown-server",
            remedy="add it to the declaration and run `pulumi up` of the site stack",
        )
    return settings


def _reason(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        return {"code": "unknown", "message": "the agent gave no reason", "remedy": ""}
    return {key: str(value.get(key, ""))[:2000] for key in ("code", "message", "remedy")}
