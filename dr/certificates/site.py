"""The certificates of a site as its folder holds them: the issuing authority at work, and who holds what.

    tls/ca.crt                     the root: whom everybody believes
    tls/issuing.pem                key and certificate of the issuing authority, written whole by `up`
    tls/server.crt, server.key     of the configuration server and process server
    operator/operator.crt, .key    of whoever asks on the site's machine
    certificates.db                the register

Rules:
- The root's key is at hand only in `prepare`, which `up` calls; everything else signs by the issuing authority.
- What is handed out is in the register before.
- A renewed certificate keeps its key, so that one file changes and a crash leaves a pair that fits; one that was
  revoked gets a new key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from dr.certificates import authority
from dr.certificates.authority import ENROLMENT, Authority, identity_uri
from dr.certificates.lifetime import (
    CERTIFICATE_DAYS,
    ISSUING_RENEWED_LEFT,
    TOKEN_DAYS,
    Holding,
    chain_problem,
    common_name,
    holding,
    public_pem,
)
from dr.certificates.register import Issued, Register, Revoked
from dr.certificates.tls import Identity, Peer
from dr.durable import write_durably
from dr.errors import Corrupt, NotFound, PrerequisiteMissing

CA, ISSUING, REGISTER = "tls/ca.crt", "tls/issuing.pem", "certificates.db"
SERVER, OPERATOR = "tls/server", "operator/operator"  # with .crt and .key
FILES = (CA, ISSUING, f"{SERVER}.crt", f"{SERVER}.key", f"{OPERATOR}.crt", f"{OPERATOR}.key", REGISTER)
ISSUING_ROLE = "issuing"
_HOLDERS = ("agent", ENROLMENT, "server", "operator")  # whom one revokes by name
NO_CERTIFICATE = "there is none"
_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"
_PRESENT = "run `pulumi up --refresh` of the site stack"


@dataclass(frozen=True, slots=True)
class Issuing:
    """The issuing authority and its certificate."""

    authority: Authority
    certificate: x509.Certificate

    @property
    def serial(self) -> str:
        """Return the serial number in hexadecimal."""
        return f"{self.certificate.serial_number:x}"


class SiteCertificates:
    """Everything that is done with the certificates of the site in `folder`. Its calls block."""

    def __init__(self, folder: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._folder = folder
        self._now = now
        self.register = Register(folder / REGISTER)

    @property
    def authority_pem(self) -> bytes:
        """Return the root's certificate."""
        return self._read(CA)

    def issuing(self) -> Issuing:
        """Return the issuing authority. `PrerequisiteMissing` `issuing-missing` or `Corrupt`."""
        bundle = self._read(ISSUING)
        key, mark, certificate_pem = bundle.partition(_CERTIFICATE)
        try:
            certificate = x509.load_pem_x509_certificate(mark + certificate_pem)
            fits = public_pem(certificate) == _public_of(key)
        except ValueError:
            fits = False
        if not fits:
            path = self._folder / ISSUING
            raise Corrupt(f"{path} is no key with its certificate", code="issuing-invalid", remedy=_PRESENT)
        return Issuing(Authority(mark + certificate_pem, key, mark + certificate_pem), certificate)

    def prepare(self, root: Authority, *, site: str, server: str, addresses: Sequence[str]) -> datetime:
        """Make everything that is missing or does not fit; return when the issuing authority ends."""
        for part in ("tls", "operator"):
            (self._folder / part).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.register.make()
        if not (self._folder / CA).exists() or self._read(CA) != root.cert_pem:
            write_durably(self._folder / CA, root.cert_pem)
        if self._issuing_unfit(root, site, addresses):
            made = authority.create_issuing(root, site, addresses, now=self._now())
            write_durably(self._folder / ISSUING, made.key_pem + made.cert_pem)
        issuing = self.issuing()
        self._provide(issuing, SERVER, Identity(site, "server", server), addresses)
        self._provide(issuing, OPERATOR, Identity(site, "operator", "site"), ())
        return issuing.certificate.not_valid_after_utc

    def renew(self) -> list[str]:
        """Renew what lies here and is due; return its names. Raises as `issuing`, or `OSError`."""
        issuing = self.issuing()
        held = {stem: self.held(stem) for stem in (SERVER, OPERATOR)}
        return [
            stem
            for stem, found in held.items()
            if found is not None and self._provide(issuing, stem, found.identity, sorted(found.addresses))
        ]

    def held(self, stem: str) -> Holding | None:
        """Return a certificate that lies here, None when it is missing or unreadable."""
        path = self._folder / f"{stem}.crt"
        return holding(path.read_bytes()) if path.exists() else None

    def token(self, server: str) -> bytes:
        """Return a token with which `server` gets its certificate once, within the hour: key and chain as PEM."""
        issuing, site = self.issuing(), self._site()
        uri = identity_uri(site, ENROLMENT, server)
        chain, key = authority.issue(issuing.authority, uri=uri, days=TOKEN_DAYS, now=self._now())
        self._note(chain, renews=None)
        return key + chain

    def token_waits(self, server: str, serial: str) -> bool:
        """Tell whether `server` can still exchange its token with this serial number."""
        now = self._now().timestamp()
        known = any(
            (each.serial, each.role, each.name) == (serial, ENROLMENT, server) and each.until > now
            for each in self.register.issued(now)
        )
        revoked = {each.serial for each in self.register.revoked()}
        return known and serial not in revoked | self.register.used_tokens()

    def certify(
        self, peer: Peer, request_pem: bytes, servers: Collection[str], process_servers: Collection[str] = ()
    ) -> bytes:
        """Return the certificate that the holder of `peer` gets for the key of a request, with its chain.

        A token becomes the certificate of its server's agent; any other is renewed as what it is. `servers` are those
        protected, `process_servers` those declared. Raises `Refused` (`request-invalid`, `token-unknown`, `token-used`,
        `certificate-revoked`), `NotFound` `unknown-server`, `Conflict` `too-many-certificates`, or as `issuing`.
        """
        key = authority.requested_key(request_pem)
        identity = peer.identity
        role = "agent" if identity.role == ENROLMENT else identity.role
        if role == "agent" and identity.name not in servers:
            raise NotFound(f'server "{identity.name}" is not protected by this site', code="unknown-server")
        if role == "server" and identity.name not in process_servers:
            raise NotFound(f'process server "{identity.name}" is not of this site any more', code="unknown-server")
        if identity.role == ENROLMENT:
            self.register.use(peer.serial, hashlib.sha256(_key_pem(key)).hexdigest(), peer.until)
        chain = authority.sign_key(
            self.issuing().authority,
            key,
            uri=identity_uri(identity.site, role, identity.name),
            addresses=peer.addresses if role == "server" else (),
            days=CERTIFICATE_DAYS,
            now=self._now(),
        )
        self._note(chain, renews=peer.serial)
        return chain

    def problem(self, server: str, chain_pem: bytes, key_public_pem: bytes) -> str | None:
        """Say why the agent of `server` needs a new certificate, or None when the one it has will do."""
        found = holding(chain_pem)
        if found is None:
            return NO_CERTIFICATE
        if chain_problem(chain_pem, self.authority_pem) is not None:
            return "it is not of this site's CA"
        if found.identity != Identity(self._site(), "agent", server):
            return "it speaks for another server"
        if public_pem(found.certificate) != key_public_pem.strip():
            return "it does not belong to the key"
        if found.until <= self._now():
            return f"it ended on {found.until:%Y-%m-%d}"
        revoked = {each.serial for each in self.register.revoked()}
        return "it was revoked" if revoked & {found.serial, found.issuer} else None

    def adopt(self, server: str, chain_pem: bytes) -> bool:
        """Note the certificate that the agent of `server` holds, if it is one; return whether it is.

        The register of a rebuilt site knows nobody: what is not noted could not be revoked by the server's name.
        """
        found = holding(chain_pem)
        if found is None or chain_problem(chain_pem, self.authority_pem) is not None:
            return False
        if found.identity != Identity(self._site(), "agent", server):
            return False
        since = (found.certificate.not_valid_before_utc + authority.CLOCK_SLACK).timestamp()
        who = found.identity
        self.register.adopt(Issued(found.serial, found.issuer, who.role, who.name, since, found.until.timestamp()))
        return True

    @property
    def issuing_revoked(self) -> bool:
        """Tell whether the issuing authority at work was revoked, so that `up` has to make another."""
        return self.issuing().serial in {each.serial for each in self.register.revoked()}

    def revoke_removed(self, server: str) -> None:
        """Revoke all of a server that is not protected any more, as far as anything is known here."""
        if (self._folder / REGISTER).exists():
            reason = "the server was taken out of the declaration"
            self.register.revoke_holder(server, ("agent", ENROLMENT), self._now().timestamp(), reason)

    def revoke(self, what: str, reason: str) -> list[Revoked]:
        """Revoke a holder's certificates, or the one with a serial number and what it was renewed to.

        Returns what is revoked now. Raises `NotFound` when `what` is neither, or as the register does.
        """
        at, serial = self._now().timestamp(), what.lower().lstrip("0")
        found = self.register.revoke_holder(what, _HOLDERS, at, reason)
        if found:
            return found
        found = self.register.revoke_lineage(serial, at, reason)
        if serial not in {each.serial for each in found}:
            unknown = self._unknown(serial, reason)
            self.register.revoke(unknown)  # first, so that nothing renews it after the look at its lineage
            found = [unknown, *self.register.revoke_lineage(serial, at, reason)]
        return found

    def _unknown(self, serial: str, reason: str) -> Revoked:
        """Return what to revoke when nobody was given it: the issuing authority itself, or what a thief signed."""
        now = self._now()
        try:
            issuing = self.issuing()
        except PrerequisiteMissing:
            issuing = None
        if issuing is not None and issuing.serial == serial:
            end = issuing.certificate.not_valid_after_utc.timestamp()
            return Revoked(serial, ISSUING_ROLE, self._site(), end, now.timestamp(), reason)
        if len(serial) < 16 or not set(serial) <= set("0123456789abcdef"):
            raise NotFound(
                f'no server and no certificate "{serial}" is known',
                code="unknown-certificate",
                remedy="name a protected server, or a serial number as `openssl x509 -noout -serial` prints it",
            )
        longest = now + timedelta(days=authority.ISSUING_DAYS)
        return Revoked(serial, "unknown", "", longest.timestamp(), now.timestamp(), reason)

    def _issuing_unfit(self, root: Authority, site: str, addresses: Sequence[str]) -> bool:
        try:
            issuing = self.issuing()
        except (PrerequisiteMissing, Corrupt):
            return True
        held = issuing.certificate.extensions.get_extension_for_class(x509.NameConstraints).value
        left = issuing.certificate.not_valid_after_utc - self._now()
        return (
            chain_problem(issuing.authority.cert_pem, root.cert_pem) is not None
            or held != authority.constraints(site, addresses)
            or left < ISSUING_RENEWED_LEFT
            or issuing.serial in {each.serial for each in self.register.revoked()}
        )

    def _provide(self, issuing: Issuing, stem: str, identity: Identity, addresses: Sequence[str]) -> bool:
        """Write a certificate unless the one that is there will do; tell whether one was written."""
        key_path, found = self._folder / f"{stem}.key", self.held(stem)
        revoked = {each.serial for each in self.register.revoked()}
        key = _private_of(key_path.read_bytes()) if key_path.exists() else None
        renews = None
        if found is not None and key is not None and not revoked & {found.serial, found.issuer}:
            fits = (
                found.identity == identity
                and found.addresses == frozenset(addresses)
                and found.issuer == common_name(issuing.certificate.subject)
                and public_pem(found.certificate) == _key_pem(key.public_key())
            )
            if fits and not found.due(self._now()):
                return False
            renews = found.serial
        elif key is None or found is not None:
            key = ec.generate_private_key(ec.SECP256R1())
            write_durably(key_path, _private_pem(key))
        uri = identity_uri(identity.site, identity.role, identity.name)
        chain = authority.sign_key(
            issuing.authority, key.public_key(), uri=uri, addresses=addresses, days=CERTIFICATE_DAYS, now=self._now()
        )
        self._note(chain, renews=renews)
        write_durably(self._folder / f"{stem}.crt", chain)
        return True

    def _note(self, chain_pem: bytes, *, renews: str | None) -> None:
        found = holding(chain_pem)
        assert found is not None
        who, issued_at, until = found.identity, self._now().timestamp(), found.until.timestamp()
        self.register.note(Issued(found.serial, found.issuer, who.role, who.name, issued_at, until), renews=renews)

    def _site(self) -> str:
        found = self.held(SERVER)
        if found is None:
            raise PrerequisiteMissing(
                f"{self._folder} holds no certificate of a site", code="issuing-missing", remedy=_PRESENT
            )
        return found.identity.site

    def _read(self, name: str) -> bytes:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            raise PrerequisiteMissing(
                f"{self._folder / name} is not there: nobody gets a certificate",
                code="issuing-missing",
                remedy=_PRESENT,
            ) from None


def _private_of(pem: bytes) -> ec.EllipticCurvePrivateKey | None:
    try:
        key = serialization.load_pem_private_key(pem, None)
    except ValueError:
        return None
    return key if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _key_pem(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).strip()


def _public_of(key_pem: bytes) -> bytes:
    key = _private_of(key_pem)
    return _key_pem(key.public_key()) if key is not None else b""
