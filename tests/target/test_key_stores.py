"""Both key stores by one contract, and what is Key Vault's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dr.errors import Conflict, NotFound, PrerequisiteMissing, Refused, Unreachable
from dr.target.key_vault import KeyVaultKeyStore
from dr.target.secrets import KEY_VAULT_VARIABLE, FolderKeyStore, KeyStore, key_store
from tests.target.fake_azure import FakeAzure

SUBSCRIPTION = "3f2b1c5e-7a64-4c1d-9d5b-0a1b2c3d4e5f"
VAULT = "https://kv-lb-harbour.vault.azure.net"
PEM = b"-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n"
Make = Callable[[], KeyStore]


@pytest.fixture
def azure() -> FakeAzure:
    return FakeAzure(SUBSCRIPTION)


@pytest.fixture(params=["folder", "key-vault"])
def make(request: pytest.FixtureRequest, tmp_path: Path, azure: FakeAzure) -> Make:
    """Return what opens the same store anew."""
    if request.param == "folder":
        return lambda: FolderKeyStore(tmp_path, "a passphrase")
    return lambda: KeyVaultKeyStore(azure.azure().secrets(VAULT))


@pytest.mark.parametrize("secret", [PEM, b"two words", bytes(range(256)), "größer".encode(), b"\xff\xfe"])
def test_what_was_put_is_read_by_another_process(make: Make, secret: bytes) -> None:
    make().put("ca-harbour", secret)
    assert make().get("ca-harbour") == secret


def test_a_later_secret_replaces_an_earlier_one(make: Make) -> None:
    keys = make()
    keys.put("ca-harbour", b"one")
    keys.put("ca-harbour", b"\x80two")
    assert keys.get("ca-harbour") == b"\x80two"
    keys.put("ca-harbour", b"three")
    assert keys.get("ca-harbour") == b"three"


def test_what_is_not_there_is_named(make: Make) -> None:
    with pytest.raises(NotFound, match='no secret "ca-harbour"') as missing:
        make().get("ca-harbour")
    assert missing.value.code == "secret-not-found"


def test_a_deleted_secret_is_gone_and_can_be_put_again(make: Make) -> None:
    keys = make()
    keys.delete("ca-harbour")
    keys.put("ca-harbour", b"one")
    keys.put("other", b"stays")
    keys.delete("ca-harbour")
    keys.delete("ca-harbour")
    with pytest.raises(NotFound):
        keys.get("ca-harbour")
    keys.put("ca-harbour", b"two")
    assert keys.get("ca-harbour") == b"two"
    assert keys.get("other") == b"stays"


@pytest.mark.parametrize("name", ["", "UPPER", "../other", "a/b", "-a", "ä"])
def test_what_is_no_name_is_refused(make: Make, name: str) -> None:
    for call in (lambda: make().get(name), lambda: make().put(name, b"x"), lambda: make().delete(name)):
        with pytest.raises(Refused, match="no name for a secret"):
            call()


def test_a_secret_put_by_hand_is_read_as_it_is(azure: FakeAzure) -> None:
    azure.azure().secrets(VAULT).set_secret("vpn-key", "pre shared")
    assert KeyVaultKeyStore(azure.azure().secrets(VAULT)).get("vpn-key") == b"pre shared"


def test_no_role_no_answer_and_too_much_are_told_apart(azure: FakeAzure) -> None:
    keys = KeyVaultKeyStore(azure.azure().secrets(VAULT))
    with pytest.raises(Refused, match="longer than Key Vault takes"):
        keys.put("big", b"x" * 25_001)
    azure.forbidden = "/secrets/ca-harbour"
    with pytest.raises(Refused, match='the secret "ca-harbour": this login may not') as refused:
        keys.get("ca-harbour")
    assert refused.value.code == "role-missing"
    azure.silent = True
    with pytest.raises(Unreachable):
        keys.get("other")


def test_another_conflict_is_not_taken_for_a_deleted_secret(azure: FakeAzure) -> None:
    keys = KeyVaultKeyStore(azure.azure().secrets(VAULT))
    azure.busy = "/secrets/ca-harbour"
    with pytest.raises(Conflict):
        keys.put("ca-harbour", b"x")


def test_without_an_address_the_remedy_is_dr_env(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VAULT_VARIABLE, raising=False)
    with pytest.raises(PrerequisiteMissing) as missing:
        key_store(SUBSCRIPTION)
    assert "dr env --target azure" in missing.value.remedy
    monkeypatch.setenv(KEY_VAULT_VARIABLE, VAULT)
    assert isinstance(key_store(SUBSCRIPTION), KeyVaultKeyStore)  # asks nobody yet
