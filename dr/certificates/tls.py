"""TLS as every listener and client of Lifeboat uses it: 1.3 only, certificates of the site's CA on both sides."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dr.errors import Refused


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a certificate's holder is; `role` is agent, operator, server or enrolment."""

    site: str
    role: str
    name: str


@dataclass(frozen=True, slots=True)
class Peer:
    """A certificate that was shown: `serial` and `issuer` (its issuing authority's serial) in hexadecimal."""

    identity: Identity
    serial: str
    issuer: str
    until: float  # seconds since 1970
    addresses: tuple[str, ...] = ()


def server_context(cert: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """Return the context of a listener: no client without a certificate of our CA gets past the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(cert, key)
    context.load_verify_locations(ca)
    return context


def client_context(cert: Path, key: Path, ca: Path) -> ssl.SSLContext:
    """Return the context of a client; it trusts the site's CA alone and checks the address it calls."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(cert, key)
    context.load_verify_locations(ca)
    # An address is in the SAN: else the certificate of an agent that is called as the server would do.
    context.hostname_checks_common_name = False
    return context


def peer(certificate: Mapping[str, Any] | None) -> Peer:
    """Return whose certificate it is, from `SSLObject.getpeercert()`.

    Raises `Refused` unless the certificate names exactly one identity.
    """
    shown = certificate or {}
    names = shown.get("subjectAltName", ())
    identity = identity_of([value for kind, value in names if kind == "URI"])
    issuer = dict(part[0] for part in shown["issuer"]).get("commonName", "")
    addresses = tuple(value for kind, value in names if kind in {"DNS", "IP Address"})
    serial = f"{int(shown['serialNumber'], 16):x}"
    return Peer(identity, serial, issuer, ssl.cert_time_to_seconds(shown["notAfter"]), addresses)


def identity_of(uris: Sequence[str]) -> Identity:
    """Return the identity that the URIs of a certificate name. `Refused` unless it is exactly one."""
    if len(uris) == 1:
        parts = urlsplit(uris[0])
        path = parts.path.split("/")
        if parts.scheme == "lifeboat" and parts.netloc and len(path) == 3 and all(path[1:]):
            return Identity(parts.netloc, path[1], path[2])
    raise Refused("the client certificate names no Lifeboat identity", code="identity-missing")
