"""The vault's store by a login of Entra instead of a key: the contract of all stores, over Azurite's own check.

Azurite looks at issuer, audience and time of a token, and takes its signature and every right for granted.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from dr.errors import Refused
from dr.vault.azure import AzureBlobStore
from dr.vault.store import BlobStore
from tests.target.fake_azure import PERSON, token
from tests.vault.azurite import Azurite, running_azurite
from tests.vault.contract import BlobStoreContract

pytestmark = pytest.mark.real
STORAGE = "https://storage.azure.com"


class Login:
    """A credential as the SDK wants it; its tokens are for `audience`."""

    def __init__(self, audience: str = STORAGE) -> None:
        self._audience = audience

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        assert scopes == (f"{STORAGE}/.default",)
        return AccessToken(token(self._audience, PERSON), int(time.time()) + 3600)


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    folder = tmp_path_factory.mktemp("azurite")
    certificate, key = server_certificate(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        options = ("--cert", str(certificate), "--key", str(key), "--oauth", "basic")
        with running_azurite(folder, options=options) as running:
            yield running


class TestByLogin(BlobStoreContract):
    @pytest.fixture
    def store(self, azurite: Azurite) -> Iterator[BlobStore]:
        store = AzureBlobStore(azurite.url, Login())
        yield store
        store.close()


def test_a_token_for_another_service_is_refused(azurite: Azurite) -> None:
    store = AzureBlobStore(azurite.url, Login("https://vault.azure.net"))
    with pytest.raises(Refused, match="the store refused the login") as refused:
        store.put("runs", "x", b"")
    assert "az login" in refused.value.remedy
    store.close()


def server_certificate(folder: Path) -> tuple[Path, Path]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "azurite")]), datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "server.crt", folder / "server.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths[1].write_bytes(pem)
    return paths
