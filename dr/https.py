"""HTTPS as both servers of a site speak it: certificates demanded, one error body, bounded requests.

Rules:
- Who calls is in the client certificate; a certificate of another site is refused even if our CA signed it, and so is
  one that was revoked, or that ended after its handshake: by name, and the connection with it.
- Every answer that is not a success carries `{"error": {"code", "message", "remedy"}}`, also for unknown paths,
  bodies that are too large and faults of our own; what a fault of our own says stays in our log.
- A body has a size limit and a deadline, so that a slow or hostile client holds neither memory nor a handler.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from dr.certificates.register import revoked_error
from dr.certificates.revocations import Revocations
from dr.certificates.tls import Identity, Peer
from dr.errors import LifeboatError, NotFound, Refused
from dr.journal import strict_json
from dr.listener import ROOMS, Room

MAX_JSON_BYTES = 256 << 10  # parsed on the event loop, which all servers share
BODY_SECONDS = 60.0
RETRY_AFTER_SECONDS = 2

log = logging.getLogger("dr.https")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CALLER = web.RequestKey("caller", Peer)
HTTP_CODES = {404: "not-found", 405: "method-not-allowed", 413: "too-large", 400: "request-invalid"}


class RequestInvalid(LifeboatError):
    """The request is not what the interface's description says."""

    code = "request-invalid"
    exit_code = 2
    http_status = 400
    remedy = "send what docs/formats describes for this call"


class TooLarge(RequestInvalid):
    """The body is larger than the interface allows."""

    code = "too-large"
    http_status = 413


def error_response(error: LifeboatError) -> web.Response:
    """Return the one error body, with `Retry-After` when it is worth trying again."""
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if error.http_status == 503 else {}
    status = error.http_status if error.http_status >= 400 else 500
    return web.json_response(error.as_dict(), status=status, headers=headers)


def application(
    site: str, *, revocations: Revocations | None = None, max_body_bytes: int = MAX_JSON_BYTES
) -> web.Application:
    """Return an application that knows who calls (`caller`) and turns every failure into the error body."""
    revoked = revocations if revocations is not None else Revocations()

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        room = request.app[ROOMS].get(request.protocol)
        if room is None:
            raise ConnectionResetError("the connection is gone")
        room.begun()
        try:
            request[CALLER] = _welcome(room, site, revoked)
        except LifeboatError as error:
            response = error_response(error)
            response.force_close()
            return response
        try:
            return await _answered(request, handler)
        finally:
            room.ended()

    return web.Application(middlewares=[guard], client_max_size=max_body_bytes)


def _welcome(room: Room, site: str, revoked: Revocations) -> Peer:
    """Return who calls. `Refused` when nothing may be asked with the certificate (any more)."""
    caller = room.peer
    if caller is None:
        raise room.refusal or Refused("the client certificate names no Lifeboat identity", code="identity-missing")
    if caller.identity.site != site:
        raise Refused(f'this is site "{site}"; the certificate is of site "{caller.identity.site}"')
    if caller in revoked:
        raise revoked_error()
    if caller.until <= time.time():
        raise Refused(
            "this certificate has ended",
            code="certificate-ended",
            remedy="it renews itself while it is good; now `pulumi up --refresh` of the site stack makes another",
        )
    return caller


async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except LifeboatError as error:
        return error_response(error)
    except web.HTTPException as error:
        code = HTTP_CODES.get(error.status, "refused")
        return error_response(_as_ours(code, error))
    except asyncio.CancelledError:
        raise
    except Exception:
        log.exception("fault in %s %s", request.method, request.path)
        return error_response(LifeboatError("a fault in the server", remedy="its log names it", code="fault"))


def caller(request: web.Request) -> Peer:
    """Return whose certificate the request came with."""
    return request[CALLER]


def identity(request: web.Request) -> Identity:
    """Return who sent the request."""
    return request[CALLER].identity


def demand_role(request: web.Request, *roles: str) -> None:
    """Raise `Refused` unless the caller has one of `roles`."""
    if identity(request).role not in roles:
        raise Refused(f"this call is for {' or '.join(roles)}, not for the role {identity(request).role}")


def demand_agent_of(request: web.Request, server: str) -> None:
    """Raise `Refused` unless the caller is the agent of `server` itself."""
    who = identity(request)
    if (who.role, who.name) != ("agent", server):
        raise Refused(f'{who.role} "{who.name}" may not act for server "{server}"')


async def read_body(request: web.Request, limit_bytes: int) -> bytes:
    """Return the body. `TooLarge`, or `RequestInvalid` when it did not arrive in time or whole."""
    if request.content_length is not None and request.content_length > limit_bytes:
        raise TooLarge(f"the body has {request.content_length} bytes, more than {limit_bytes}")
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.content.iter_any():
                size += len(part)
                if size > limit_bytes:
                    raise TooLarge(f"the body has more than {limit_bytes} bytes")
                parts.append(part)
    except TimeoutError:
        raise RequestInvalid(f"the body did not arrive within {BODY_SECONDS:.0f} s", code="too-slow") from None
    except ConnectionResetError:
        # The caller was killed or its network went: its trouble, not a fault of ours.
        raise RequestInvalid("the caller went away before the whole body was here", code="incomplete") from None
    return b"".join(parts)


async def read_json(request: web.Request) -> Mapping[str, Any]:
    """Return the body as JSON object. `RequestInvalid` otherwise."""
    body = await read_body(request, MAX_JSON_BYTES)
    try:
        value = strict_json.loads(body or b"{}")
    except ValueError:
        raise RequestInvalid("the body is not JSON") from None
    if not isinstance(value, dict):
        raise RequestInvalid("the body is not a JSON object")
    return value


def number(value: object, name: str, *, lowest: int = 0, highest: int = (1 << 63) - 1) -> int:
    """Return `value` (a JSON number or decimal digits) as whole number in its bounds. `RequestInvalid`."""
    digits = isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19
    if not digits and (not isinstance(value, int) or isinstance(value, bool)):
        raise RequestInvalid(f'"{name}" is not a whole number')
    result = int(value)  # type: ignore[call-overload]  # str of digits or int, checked above
    if not lowest <= result <= highest:
        raise RequestInvalid(f'"{name}" is not between {lowest} and {highest}')
    return int(result)


def _as_ours(code: str, error: web.HTTPException) -> LifeboatError:
    kind = {404: NotFound, 413: TooLarge}.get(error.status, RequestInvalid)
    ours = kind(error.reason, code=code)
    ours.http_status = error.status
    return ours
