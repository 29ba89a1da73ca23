"""References to keys and passwords: where they lead, and what each one that leads nowhere is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from dr.certificates.authority import create
from dr.errors import PrerequisiteMissing
from dr.model import SecretReference
from dr.push.credentials import Secrets
from dr.target.secrets import FolderKeyStore

WHAT = "shop1: ssh.sudoPassword"


def store(tmp_path: Path, passphrase: str = "break glass") -> FolderKeyStore:
    return FolderKeyStore(tmp_path / "keys", passphrase)


def test_where_a_key_file_is_looked_for() -> None:
    assert Secrets({"LIFEBOAT_PLANS": "/plans"}).key_path("keys/shop1", None, "shop1") == Path("/plans/keys/shop1")
    assert Secrets({}).key_path("keys/shop1", None, "shop1").parts[-3:] == ("plans", "keys", "shop1")
    assert Secrets({"SHOP_KEY": "/k"}).key_path(None, "SHOP_KEY", "shop1") == Path("/k")
    with pytest.raises(PrerequisiteMissing, match="SHOP_KEY is not set"):
        Secrets({}).key_path(None, "SHOP_KEY", "shop1")


def test_each_kind_of_reference_leads_to_the_password(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("pass word\r\n")
    store(tmp_path).put("shop1-sudo", b"pass word\n")
    secrets = Secrets({"SUDO": "pass word", "LIFEBOAT_PLANS": str(tmp_path)}, lambda: store(tmp_path))
    for reference in (
        SecretReference(env="SUDO"),
        SecretReference(file="word"),
        SecretReference(file=str(tmp_path / "word")),
        SecretReference(key_store="shop1-sudo"),
    ):
        assert secrets.reveal(reference, WHAT) == "pass word"


@pytest.mark.parametrize(
    ("reference", "code", "message"),
    [
        (SecretReference(env="NONE"), "secret-missing", "the environment variable NONE is not set"),
        (SecretReference(env="EMPTY"), "secret-invalid", "the environment variable EMPTY is empty"),
        (
            SecretReference(file="none"),
            "secret-missing",
            "the file FOLDER/none cannot be read: No such file or directory",
        ),
        (SecretReference(file="."), "secret-missing", "the file FOLDER cannot be read: Is a directory"),
        (SecretReference(file="lines"), "secret-invalid", "the file lines is longer than one line"),
        (SecretReference(file="long"), "secret-invalid", "the file long is longer than one line"),
        (SecretReference(file="bytes"), "secret-invalid", "the file bytes is no text in UTF-8"),
        (SecretReference(key_store="none"), "secret-missing", 'the key store has no secret "none"'),
        (
            SecretReference(key_store="ca-harbour"),
            "secret-invalid",
            'the secret "ca-harbour" of the key store is longer than one line',
        ),
    ],
)
def test_each_that_leads_nowhere_has_a_name(
    tmp_path: Path, reference: SecretReference, code: str, message: str
) -> None:
    (tmp_path / "lines").write_text("hush-hush\nhush-hush\n")
    (tmp_path / "long").write_text("hush-hush" * 1000)
    (tmp_path / "bytes").write_bytes(b"hush-hush\xff\n")
    store(tmp_path).put("ca-harbour", create("ca-harbour").key_pem)
    secrets = Secrets({"EMPTY": "", "LIFEBOAT_PLANS": str(tmp_path)}, lambda: store(tmp_path))
    with pytest.raises(PrerequisiteMissing) as caught:
        secrets.reveal(reference, WHAT)
    assert caught.value.code == code
    assert caught.value.message == f"{WHAT}: {message}".replace("FOLDER", str(tmp_path))
    assert caught.value.remedy
    assert "hush" not in caught.value.message + caught.value.remedy


def test_a_key_store_that_does_not_open_is_named(tmp_path: Path) -> None:
    store(tmp_path).put("shop1-sudo", b"word")
    secrets = Secrets({}, lambda: store(tmp_path, "another passphrase"))
    with pytest.raises(PrerequisiteMissing, match=r"shop1-sudo.* cannot be had from the key store"):
        secrets.reveal(SecretReference(key_store="shop1-sudo"), WHAT)
    with pytest.raises(PrerequisiteMissing, match="no key store is at hand"):
        Secrets({}).reveal(SecretReference(key_store="shop1-sudo"), WHAT)
