"""TLS as every listener and client of Lifeboat uses it: 1.3 only, certificates of the site's CA on both sides."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dr.errors import Refused


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a certificate's holder is; `role` is agent, operator or server."""

    site: str
    role: str
    name: str


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
    return context


def peer_identity(certificate: Mapping[str, Any] | None) -> Identity:
    """Return who the peer is, from `SSLObject.getpeercert()`.

    Raises `Refused` unless the certificate names exactly one identity.
    """
    names = (certificate or {}).get("subjectAltName", ())
    uris = [value for kind, value in names if kind == "URI"]
    if len(uris) == 1:
        parts = urlsplit(uris[0])
        path = parts.path.split("/")
        if parts.scheme == "lifeboat" and parts.netloc and len(path) == 3 and all(path[1:]):
            return Identity(parts.netloc, path[1], path[2])
    raise Refused("the client certificate names no Lifeboat identity", code="identity-missing")
