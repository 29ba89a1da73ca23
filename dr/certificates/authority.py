"""Certificate authorities: a root per site that signs nothing but issuing authorities, and those, which sign the rest.

Rules:
- ECDSA P-256 throughout; serial numbers are random; a certificate says what its holder is in one URI SAN,
  `lifeboat://SITE/ROLE/NAME`, and may serve as client and server both (agents of a group listen too); a token's, of
  role `enrolment`, is for clients only.
- An issuing authority can sign no further authority, nothing for another site, and no address but the declared ones.
- The signer decides what a certificate says: of a request only the public key is taken.
- Certificates are dated one hour back, because a clock may be behind. None outlives its issuer: it would be refused.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from dr.errors import Refused

AUTHORITY_DAYS = 3650
ISSUING_DAYS = 90
CLOCK_SLACK = timedelta(hours=1)
ENROLMENT = "enrolment"  # the role of a token


@dataclass(frozen=True, slots=True)
class Authority:
    """A CA and its key. `chain_pem` goes with each certificate it signs, for those who know only the root."""

    cert_pem: bytes
    key_pem: bytes = field(repr=False)
    chain_pem: bytes = b""


def identity_uri(site: str, role: str, name: str) -> str:
    """Return the URI that says who a certificate's holder is; `role` is agent, operator, server or enrolment."""
    return f"lifeboat://{site}/{role}/{name}"


def create(name: str, *, now: datetime | None = None) -> Authority:
    """Make a new root authority called `name`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _common_name(name)
    start = now or datetime.now(UTC)
    certificate = (
        _builder(subject, subject, key.public_key(), start, start + timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(_key_usage(signing=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def create_issuing(root: Authority, site: str, addresses: Sequence[str], *, now: datetime | None = None) -> Authority:
    """Make an authority that signs for `site` and for servers under `addresses` (IP addresses or DNS names) only.

    Its common name is its serial number, so that whoever sees a certificate knows by which authority it was signed.
    """
    issuer, issuer_key = _signer(root)
    key, start = ec.generate_private_key(ec.SECP256R1()), now or datetime.now(UTC)
    serial = x509.random_serial_number()
    end = min(start + timedelta(days=ISSUING_DAYS), issuer.not_valid_after_utc)
    certificate = (
        _builder(_common_name(f"{serial:x}"), issuer.subject, key.public_key(), start, end, serial)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signing=True), critical=True)
        .add_extension(constraints(site, addresses), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    return Authority(pem, _key_pem(key), pem)


def issue(
    authority: Authority, *, uri: str, addresses: Sequence[str] = (), days: float, now: datetime | None = None
) -> tuple[bytes, bytes]:
    """Make a key and a certificate for `uri`; `addresses` are IP addresses or DNS names it answers under.

    Returns the certificate with its chain, and the key, as PEM.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    pem = sign_key(authority, key.public_key(), uri=uri, addresses=addresses, days=days, now=now)
    return pem, _key_pem(key)


def requested_key(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    """Return the public key of a request; everything else that it asks for is ignored.

    Raises `Refused` when the request is not one, is not signed by its own key, or its key is not P-256.
    """
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        valid = request.is_signature_valid
        key = request.public_key()
    except (ValueError, InvalidSignature, UnsupportedAlgorithm) as error:
        raise Refused(f"the certificate request cannot be read: {error}", code="request-invalid") from error
    if not valid or not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise Refused("the certificate request is not a P-256 key signed by itself", code="request-invalid")
    return key


def sign_key(
    authority: Authority,
    key: ec.EllipticCurvePublicKey,
    *,
    uri: str,
    addresses: Sequence[str] = (),
    days: float,
    now: datetime | None = None,
) -> bytes:
    """Return a certificate for `key` with its chain, as PEM."""
    issuer, issuer_key = _signer(authority)
    role, name = uri.rsplit("/", 2)[-2:]
    names = [x509.UniformResourceIdentifier(uri), *(_general_name(a) for a in addresses)]
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if role != ENROLMENT:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
    start = now or datetime.now(UTC)
    end = min(start + timedelta(days=days), issuer.not_valid_after_utc)
    certificate = (
        _builder(_common_name(name), issuer.subject, key, start, end)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signing=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + authority.chain_pem


def _signer(authority: Authority) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = serialization.load_pem_private_key(authority.key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return x509.load_pem_x509_certificate(authority.cert_pem), key


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    start: datetime,
    end: datetime,
    serial: int | None = None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(start - CLOCK_SLACK)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def constraints(site: str, addresses: Sequence[str]) -> x509.NameConstraints:
    """Return what an issuing authority is held to.

    Of a URI the constraint is its host, which is our site's name; a kind of address that has none is excluded whole.
    """
    names = [_general_name(address) for address in addresses]
    dns = [name for name in names if isinstance(name, x509.DNSName)]
    ips = [x509.IPAddress(ipaddress.ip_network(name.value)) for name in names if isinstance(name, x509.IPAddress)]
    excluded: list[x509.GeneralName] = [] if dns else [x509.DNSName("")]
    everywhere = [x509.IPAddress(ipaddress.ip_network(net)) for net in ("0.0.0.0/0", "::/0")]
    excluded += [] if ips else everywhere
    return x509.NameConstraints([x509.UniformResourceIdentifier(site), *dns, *ips], excluded or None)


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
