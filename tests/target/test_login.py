"""Who signs in how, and what a wrong certificate is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import CertificateCredential, DefaultAzureCredential
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from dr.errors import PrerequisiteMissing, Refused
from dr.target.folders import LOCAL_SUBSCRIPTION
from dr.target.key_vault import KeyVaultKeyStore
from dr.target.login import login, require_server_login, server_login
from tests.target.fake_azure import CLIENT, TENANT, FakeAzure

SUBSCRIPTION = "3f2b1c5e-7a64-4c1d-9d5b-0a1b2c3d4e5f"
VAULT = "https://kv-lb-harbour.vault.azure.net"


def certificate(folder: Path, name: str) -> tuple[Path, x509.Certificate]:
    """Write key and certificate of an application into one file."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / f"{name}.pem"
    path.write_bytes(pem + made.public_bytes(serialization.Encoding.PEM))
    path.chmod(0o600)
    return path, made


def variables(path: Path) -> dict[str, str]:
    return {"AZURE_TENANT_ID": TENANT, "AZURE_CLIENT_ID": CLIENT, "AZURE_CLIENT_CERTIFICATE_PATH": str(path)}


def test_a_server_signs_in_with_the_certificate_of_its_application(tmp_path: Path) -> None:
    path, registered = certificate(tmp_path, "ps1")
    fake = FakeAzure(SUBSCRIPTION, applications={CLIENT: registered})
    credential = server_login(variables(path), transport=fake.transport(), disable_instance_discovery=True)
    keys = KeyVaultKeyStore(fake.azure(credential).secrets(VAULT))
    keys.put("spool", b"secret")
    assert keys.get("spool") == b"secret"


def test_another_key_is_not_let_in(tmp_path: Path) -> None:
    path, _ = certificate(tmp_path, "stranger")
    fake = FakeAzure(SUBSCRIPTION)
    credential = server_login(variables(path), transport=fake.transport(), disable_instance_discovery=True)
    with pytest.raises(ClientAuthenticationError):
        credential.get_token("https://vault.azure.net/.default")
    with pytest.raises(Refused) as refused:
        KeyVaultKeyStore(fake.azure(credential).secrets(VAULT)).get("spool")
    assert refused.value.code == "login-refused"


def test_a_person_signs_in_by_whatever_there_is_and_a_certificate_goes_first(tmp_path: Path) -> None:
    assert isinstance(login({}), DefaultAzureCredential)
    path, _ = certificate(tmp_path, "ps1")
    assert isinstance(login(variables(path)), CertificateCredential)


def test_a_server_of_the_site_wants_its_certificate_in_azure_and_nothing_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = certificate(tmp_path, "ps1")
    for name in variables(path):
        monkeypatch.delenv(name, raising=False)
    require_server_login(LOCAL_SUBSCRIPTION)
    with pytest.raises(PrerequisiteMissing) as missing:
        require_server_login(SUBSCRIPTION)
    assert missing.value.code == "login-missing"
    for name, value in variables(path).items():
        monkeypatch.setenv(name, value)
    require_server_login(SUBSCRIPTION)


def test_what_is_missing_or_open_is_named(tmp_path: Path) -> None:
    path, _ = certificate(tmp_path, "ps1")
    with pytest.raises(PrerequisiteMissing, match="AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_CLIENT_CERT"):
        server_login({})
    with pytest.raises(PrerequisiteMissing, match="AZURE_TENANT_ID is not set"):
        login({**variables(path), "AZURE_TENANT_ID": ""})
    with pytest.raises(PrerequisiteMissing, match=r"cannot be read from .*nowhere"):
        server_login(variables(tmp_path / "nowhere"))
    path.chmod(0o644)
    with pytest.raises(Refused, match="can be read by others") as refused:
        server_login(variables(path))
    assert refused.value.remedy == f"chmod 600 {path}"
    path.chmod(0o600)
    path.write_text("no certificate")
    with pytest.raises(PrerequisiteMissing, match="no private key with its certificate"):
        server_login(variables(path))
