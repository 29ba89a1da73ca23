"""How a process server on a machine of its own keeps its certificate, and hears what was revoked.

It asks the configuration server at the address of `config.json`, with its own certificate. What it heard is kept in
`revoked.json`, so that a restart while nobody answers lets nobody in again.
"""

from __future__ import annotations

import http.client
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dr.certificates.lifetime import holding, public_pem
from dr.certificates.site import CA, SERVER
from dr.certificates.tls import client_context
from dr.config_server.settings import Address
from dr.durable import write_durably
from dr.errors import Corrupt, Unreachable

KEPT = "revoked.json"
ANSWER_SECONDS = 20.0
REACH_REMEDY = "see that `dr serve` runs at the site and that this machine reaches its configuration server"


def kept_revocations(folder: Path) -> tuple[str, frozenset[str]] | None:
    """Return version and serial numbers as they were heard last, None when nothing was. `Corrupt`, `OSError`."""
    try:
        return _listed(json.loads((folder / KEPT).read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        why = f"{folder / KEPT} is not readable: {type(error).__name__} {error}"
        remedy = "see that the configuration server is reached: it is asked, and its answer replaces the file"
        raise Corrupt(why, remedy=remedy) from error


def ask_revocations(folder: Path, address: Address, known: str, wait_seconds: int) -> tuple[str, frozenset[str]]:
    """Return version and serial numbers when they are not those `known`; at most after the wait. `Unreachable`."""
    path = f"/v1/revocations?known={known}&wait={wait_seconds}"
    document = _call(folder, address, "GET", path, None, ANSWER_SECONDS + wait_seconds)
    try:
        return _listed(document)
    except (KeyError, TypeError) as error:
        what = f"{type(error).__name__} {error}"
        raise Unreachable(
            f"the configuration server at {address.host}:{address.port}: no list of what is revoked: {what}",
            remedy="see that both run the same release",
        ) from error


def keep_revocations(folder: Path, version: str, serials: frozenset[str]) -> None:
    """Keep what was heard. Raises `OSError`."""
    write_durably(folder / KEPT, json.dumps({"version": version, "serials": sorted(serials)}).encode())


def _listed(document: Any) -> tuple[str, frozenset[str]]:
    if not isinstance(document["serials"], list):
        raise TypeError('"serials" is no list')
    return str(document["version"]), frozenset(str(serial) for serial in document["serials"])


def renew(folder: Path, address: Address) -> bool:
    """Renew this machine's certificate when it is due; tell whether it was. `Unreachable` or `Corrupt`."""
    certificate_path, key_path = folder / f"{SERVER}.crt", folder / f"{SERVER}.key"
    held = holding(certificate_path.read_bytes())
    if held is not None and not held.due(datetime.now(UTC)):
        return False
    key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    request = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    answer = _call(folder, address, "POST", "/v1/certificates", {"request": request.decode()}, ANSWER_SECONDS)
    chain = str(answer["certificate"]).encode()
    made = holding(chain)
    if made is None or public_pem(made.certificate) != public_pem_of(key):
        raise Corrupt("the configuration server answered with a certificate of another key", code="certificate-invalid")
    write_durably(certificate_path, chain)
    return True


def public_pem_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public half of a key as PEM."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_key().public_bytes(serialization.Encoding.PEM, form).strip()


def _call(
    folder: Path, address: Address, method: str, path: str, body: object | None, seconds: float
) -> dict[str, Any]:
    try:
        context = client_context(folder / f"{SERVER}.crt", folder / f"{SERVER}.key", folder / CA)
        connection = http.client.HTTPSConnection(address.host, address.port, timeout=seconds, context=context)
        try:
            connection.request(method, path, None if body is None else json.dumps(body).encode())
            response = connection.getresponse()
            document = json.loads(response.read())
        finally:
            connection.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Unreachable(
            f"the configuration server at {address.host}:{address.port}: {error}", remedy=REACH_REMEDY
        ) from error
    if response.status != http.client.OK or not isinstance(document, dict):
        said = document.get("error", {}) if isinstance(document, dict) else {}
        raise Unreachable(
            f"the configuration server at {address.host}:{address.port}: {said.get('message', response.status)}",
            code=str(said.get("code") or "unreachable"),
            remedy=str(said.get("remedy") or REACH_REMEDY),
        )
    return document
