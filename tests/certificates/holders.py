"""Certificates for tests, as a site gives them: by its issuing authority, which its root signed."""

from __future__ import annotations

from pathlib import Path

from dr.certificates import authority
from dr.certificates.lifetime import CERTIFICATE_DAYS, holding
from dr.certificates.site import SiteCertificates
from dr.certificates.tls import Peer


def site_certificates(folder: Path, site: str = "hq", root: authority.Authority | None = None) -> SiteCertificates:
    """Make what `up` of the site stack makes in a site's folder."""
    certificates = SiteCertificates(folder)
    made = root or authority.create(f"ca-{site}")
    certificates.prepare(made, site=site, server="ps1", addresses=["127.0.0.1"])
    return certificates


def hold(certificates: SiteCertificates, stem: Path, uri: str, days: float = CERTIFICATE_DAYS) -> None:
    """Write STEM.crt and STEM.key for the holder `uri`."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    addresses = ["127.0.0.1"] if "/server/" in uri else []
    chain, key = authority.issue(certificates.issuing().authority, uri=uri, addresses=addresses, days=days)
    stem.with_suffix(".crt").write_bytes(chain)
    stem.with_suffix(".key").write_bytes(key)


def peer_of(chain_pem: bytes) -> Peer:
    """Return what a listener sees of a certificate."""
    found = holding(chain_pem[chain_pem.index(b"-----BEGIN CERTIFICATE") :])
    assert found is not None
    return Peer(found.identity, found.serial, found.issuer, found.until.timestamp(), tuple(found.addresses))
