"""How long certificates live, when they are renewed, and what a certificate's file says about that. Pure.

| what | lives | renewed | named in `dr status` |
| --- | --- | --- | --- |
| a holder's certificate | 7 days | at half of its life, by its holder | with a quarter of its life left |
| the issuing authority | 90 days | with 60 days left, by `up` of the site stack | with 30 days left |
| a token | one hour | never | |

A holder may be away for half a week and a configuration server for as long, and nobody notices.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization

from dr.certificates.authority import CLOCK_SLACK
from dr.certificates.tls import Identity, identity_of
from dr.errors import Refused

CERTIFICATE_DAYS = 7.0
TOKEN_DAYS = 1 / 24
ISSUING_RENEWED_LEFT = timedelta(days=60)
ISSUING_ENDING_LEFT = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Holding:
    """A certificate as its file has it, the first of its chain."""

    certificate: x509.Certificate
    identity: Identity
    addresses: frozenset[str]

    @property
    def serial(self) -> str:
        """Return the serial number in hexadecimal."""
        return f"{self.certificate.serial_number:x}"

    @property
    def issuer(self) -> str:
        """Return the common name of the issuer: an issuing authority's serial number."""
        return common_name(self.certificate.issuer)

    @property
    def until(self) -> datetime:
        """Return when it ends."""
        return self.certificate.not_valid_after_utc

    def due(self, now: datetime) -> bool:
        """Tell whether half of its life is over."""
        return now >= self._after(0.5)

    def ending(self, now: datetime) -> bool:
        """Tell whether it should have been renewed long ago."""
        return now >= self._after(0.75)

    def _after(self, part: float) -> datetime:
        start = self.certificate.not_valid_before_utc + CLOCK_SLACK
        return start + (self.until - start) * part


def holding(chain_pem: bytes) -> Holding | None:
    """Return what a certificate's file holds, None when it is none that names an identity."""
    try:
        certificate = x509.load_pem_x509_certificate(chain_pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        identity = identity_of(names.get_values_for_type(x509.UniformResourceIdentifier))
    except (ValueError, x509.ExtensionNotFound, Refused):
        return None
    ips = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    return Holding(certificate, identity, frozenset(ips | set(names.get_values_for_type(x509.DNSName))))


def chain_problem(chain_pem: bytes, root_pem: bytes) -> str | None:
    """Say why a certificate and what comes with it does not lead to the root, or None when it does."""
    try:
        chain = [*x509.load_pem_x509_certificates(chain_pem), x509.load_pem_x509_certificate(root_pem)]
        for certificate, issuer in pairwise(chain):
            certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return "it is not of this site's CA"
    return None


def public_pem(certificate: x509.Certificate) -> bytes:
    """Return the public key of a certificate as PEM."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return certificate.public_key().public_bytes(serialization.Encoding.PEM, form).strip()


def common_name(name: x509.Name) -> str:
    """Return the common name, empty when there is none."""
    found = name.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""
