"""`dr:index:CertificateAuthority`: the site's private CA; its key is sealed in the key store, never in the state.

The key store holds one secret per CA: the key and the certificate as one PEM text, so that they are stored or lost
together. What is there is adopted, never overwritten, and `delete` keeps it: every agent trusts it.
"""

from __future__ import annotations

from cryptography.hazmat.primitives import serialization
from cryptography.x509 import load_pem_x509_certificate

from dr.certificates.authority import Authority, create
from dr.errors import Corrupt, NotFound
from dr.provider.resource import Properties, ResourceType, Session
from dr.provider.world import World
from dr.target.secrets import KeyStore

_CERTIFICATE = b"-----BEGIN CERTIFICATE-----"


def open_authority(keys: KeyStore, name: str) -> Authority:
    """Return a CA with its key from the key store.

    Raises `NotFound`, `Refused` (wrong passphrase) or `Corrupt` (not one key and its certificate).
    """
    bundle = keys.get(name)
    key_pem, mark, certificate = bundle.partition(_CERTIFICATE)
    cert_pem = mark + certificate
    try:
        public = load_pem_x509_certificate(cert_pem).public_key()
        private = serialization.load_pem_private_key(key_pem, None)
        matches = private.public_key() == public
    except ValueError:
        matches = False
    if not matches:
        raise Corrupt(
            f'the secret "{name}" in the key store is not a CA key with its certificate',
            remedy="restore the secret from a backup of the key store; a new CA would lock out every agent",
        )
    return Authority(cert_pem, key_pem)


class CertificateAuthority(ResourceType):
    name = "CertificateAuthority"
    required = ("name", "site", "subscription")

    def __init__(self, world: World) -> None:
        self._world = world

    def create(self, inputs: Properties, session: Session) -> tuple[str, Properties]:
        keys = self._world.key_store(inputs["subscription"])
        name = inputs["name"]
        try:
            authority = open_authority(keys, name)
        except NotFound:
            made = create(name, now=self._world.now())
            keys.put(name, made.key_pem + made.cert_pem)
            authority = open_authority(keys, name)
        return name, {**inputs, "certificate": authority.cert_pem.decode()}

    def delete(self, resource_id: str, state: Properties, session: Session) -> None:
        session.warn(f'the key of "{resource_id}" stays in the key store: agents and recovery points rely on it')
