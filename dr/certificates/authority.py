"""A private certificate authority per site: makes itself, issues and signs certificates.

Rules:
- ECDSA P-256 throughout; serial numbers are random; a certificate says what its holder is in one URI SAN,
  `lifeboat://SITE/ROLE/NAME`, and may serve as client and server both (agents of a group listen too).
- The signer decides what a certificate says: of a request only the public key is taken.
- Certificates are dated one hour back, because a source's clock may be behind.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dr.errors import Refused

AUTHORITY_DAYS = 3650
CLOCK_SLACK = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA: its certificate is public, its key lives only in the key store."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)


def identity_uri(site: str, role: str, name: str) -> str:
    """Return the URI that says who a certificate's holder is; `role` is agent, operator or server."""
    return f"lifeboat://{site}/{role}/{name}"


def create(name: str, *, now: datetime | None = None) -> Authority:
    """Make a new authority called `name`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = now or datetime.now(UTC)
    certificate = (
        _builder(subject, subject, key.public_key(), start, AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signing=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def issue(
    authority: Authority, *, uri: str, addresses: Sequence[str] = (), days: int, now: datetime | None = None
) -> tuple[bytes, bytes]:
    """Make a key and a certificate for `uri`; `addresses` are IP addresses or DNS names it answers under.

    Returns certificate and key as PEM.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    return _certify(authority, key.public_key(), uri, addresses, days, now), _key_pem(key)


def sign_request(authority: Authority, csr_pem: bytes, *, uri: str, days: int, now: datetime | None = None) -> bytes:
    """Sign the public key of a request for the holder `uri`; everything else the request asks for is ignored.

    Raises `Refused` when the request is not one, is not signed by its own key, or its key is not P-256.
    """
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        valid = request.is_signature_valid
    except (ValueError, InvalidSignature) as error:
        raise Refused(f"the certificate request cannot be read: {error}", code="request-invalid") from error
    key = request.public_key()
    if not valid or not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise Refused("the certificate request is not a P-256 key signed by itself", code="request-invalid")
    return _certify(authority, key, uri, (), days, now)


def _certify(
    authority: Authority,
    key: ec.EllipticCurvePublicKey,
    uri: str,
    addresses: Sequence[str],
    days: int,
    now: datetime | None,
) -> bytes:
    issuer = x509.load_pem_x509_certificate(authority.cert_pem)
    issuer_key = serialization.load_pem_private_key(authority.key_pem, None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, uri.rsplit("/", 1)[-1])])
    names = [x509.UniformResourceIdentifier(uri), *(_general_name(a) for a in addresses)]
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    certificate = (
        _builder(subject, issuer.subject, key, now or datetime.now(UTC), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signing=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, start: datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - CLOCK_SLACK)
        .not_valid_after(start + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _key_usage(*, signing: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signing,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signing,
        crl_sign=signing,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(address: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(address))
    except ValueError:
        return x509.DNSName(address)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
