"""What the certificates of a site have to say in `dr status`: named states, and the list of what is revoked. Pure.

An agent whose certificate ended cannot say so itself: the register knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from dr.certificates.authority import ENROLMENT
from dr.certificates.lifetime import ISSUING_ENDING_LEFT, Holding
from dr.certificates.register import Issued, Revoked
from dr.certificates.site import OPERATOR, SERVER, SiteCertificates
from dr.config_server.health import NamedState
from dr.errors import LifeboatError
from dr.vault.manifest import format_time

AGAIN = "run `pulumi up --refresh` of the site stack: it gives the server a new key and certificate"
NOT_RENEWED = "the agent does so at half of its life: `journalctl -u lifeboat-agent` on the server tells why it did not"
SITE_AGAIN = "run `pulumi up --refresh` of the site stack"


@dataclass(frozen=True, slots=True)
class Certificates:
    """Everything that a status needs to know, as it is at one moment."""

    issued: Sequence[Issued] = ()
    revoked: Mapping[str, Revoked] = field(default_factory=dict)  # by serial number
    used_tokens: frozenset[str] = frozenset()
    issuing_until: datetime | None = None
    held: Mapping[str, Holding | None] = field(default_factory=dict)  # by stem
    fault: NamedState | None = None  # what keeps us from knowing, or from giving certificates


def look(certificates: SiteCertificates, now: datetime) -> Certificates:
    """Read register and files; a fault is part of the answer. Blocks."""
    fault, issuing_until, issued, revoked, used = None, None, [], [], set[str]()
    try:
        issued, revoked = certificates.register.issued(now.timestamp()), certificates.register.revoked()
        used = certificates.register.used_tokens()
        issuing_until = certificates.issuing().certificate.not_valid_after_utc
    except LifeboatError as error:
        fault = NamedState(error.code, error.message, error.remedy)
    held = {stem: certificates.held(stem) for stem in (SERVER, OPERATOR)}
    return Certificates(issued, {r.serial: r for r in revoked}, frozenset(used), issuing_until, held, fault)


def agent_states(server: str, known: Certificates, now: datetime) -> Iterator[NamedState]:
    """Yield what is wrong with the certificate of a server's agent; at most one state."""
    own = [each for each in known.issued if (each.role, each.name) == ("agent", server)]
    good = [each for each in own if not {each.serial, each.issuer} & set(known.revoked)]
    newest = max(good, key=lambda each: each.until, default=None)
    if newest is not None:
        yield from _agent_ending(newest, now)
    elif _token_waits(server, known, now):
        message = "the agent has a token and has not exchanged it for its certificate yet"
        remedy = "it does within seconds: on the server, journalctl -u lifeboat-agent; a token is good for an hour"
        yield NamedState("agent-not-enrolled", message, remedy)
    elif own:
        why = known.revoked.get(own[0].serial) or known.revoked[own[0].issuer]
        yield NamedState("certificate-revoked", f"the agent's certificate was revoked: {why.reason}", AGAIN)


def _agent_ending(newest: Issued, now: datetime) -> Iterator[NamedState]:
    until, left = _time(newest.until), newest.until - now.timestamp()
    if left <= 0:
        yield NamedState("certificate-ended", f"the agent's certificate ended on {until}", AGAIN)
    elif left < (newest.until - newest.issued_at) / 4:
        message = f"the agent's certificate ends on {until} and was not renewed"
        yield NamedState("certificate-ending", message, NOT_RENEWED)


def _token_waits(server: str, known: Certificates, now: datetime) -> bool:
    return any(
        (each.role, each.name) == (ENROLMENT, server)
        and each.until > now.timestamp()
        and each.serial not in known.used_tokens
        and each.serial not in known.revoked
        for each in known.issued
    )


def site_states(known: Certificates, now: datetime) -> Iterator[NamedState]:
    """Yield what is wrong with the issuing authority and with the site's own certificates."""
    if known.fault is not None:
        yield known.fault
    until = known.issuing_until
    if until is not None and until - now < ISSUING_ENDING_LEFT:
        ended = until <= now
        yield NamedState(
            "issuing-ended" if ended else "issuing-ending",
            f"the issuing authority {'ended' if ended else 'ends'} on {_time(until.timestamp())}; after that nobody is "
            "given a certificate, and those that it signed are not believed",
            f"{SITE_AGAIN}: it makes another, which the root signs",
        )
    for stem, found in known.held.items():
        if found is not None and found.ending(now):
            message = f"the certificate {stem}.crt ends on {_time(found.until.timestamp())} and was not renewed"
            yield NamedState("certificate-ending", message, f"{SITE_AGAIN}, and read the log of `dr serve`")


def document(known: Certificates, now: datetime) -> dict[str, Any]:
    """Return what a status tells of certificates besides states: who is locked out, and until when it matters."""
    return {
        "issuing_until": None if known.issuing_until is None else format_time(known.issuing_until),
        "revoked": [
            {
                "serial": each.serial,
                "role": each.role,
                "name": each.name,
                "revoked_at": _time(each.revoked_at),
                "until": _time(each.until),
                "reason": each.reason,
            }
            for each in known.revoked.values()
            if each.until > now.timestamp()
        ],
    }


def _time(seconds: float) -> str:
    return format_time(datetime.fromtimestamp(seconds, UTC))
