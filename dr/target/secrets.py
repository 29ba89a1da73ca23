"""The break-glass passphrase, and the key store of a target.

On target local the key store is a folder of sealed files in the one that plays Azure; on target azure it is the Key
Vault of the vault stack, whose address `dr env` exports as `LIFEBOAT_KEY_VAULT`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dr.certificates.sealed import seal, unseal
from dr.durable import write_durably
from dr.errors import NotFound, PrerequisiteMissing, Refused
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders

KEY_VAULT_VARIABLE = "LIFEBOAT_KEY_VAULT"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,126}")


class KeyStore(Protocol):
    """Named secrets of one vault."""

    def get(self, name: str) -> bytes:
        """Return a secret. `NotFound`, or `Refused` when the passphrase is wrong."""

    def put(self, name: str, secret: bytes) -> None:
        """Store a secret durably, replacing an older one of that name."""

    def delete(self, name: str) -> None:
        """Remove a secret; no error when there is none."""


def passphrase(environment: Mapping[str, str] | None = None) -> str:
    """Return the break-glass passphrase from Pulumi's own two variables."""
    values = os.environ if environment is None else environment
    direct = values.get("PULUMI_CONFIG_PASSPHRASE")
    if direct:
        return direct
    named = values.get("PULUMI_CONFIG_PASSPHRASE_FILE")
    path = Path(named) if named else Folders.from_environment(values).envelope
    try:
        text = path.read_text().strip()
    except OSError as error:
        raise PrerequisiteMissing(
            f"the break-glass passphrase cannot be read from {path}: {error.strerror}",
            code="passphrase-missing",
            remedy="put it into a file of mode 0600 and set PULUMI_CONFIG_PASSPHRASE_FILE to its path",
        ) from error
    if not text:
        raise PrerequisiteMissing(f"the break-glass file {path} is empty", code="passphrase-missing")
    return text


@dataclass(frozen=True, slots=True)
class FolderKeyStore:
    """Sealed files in a folder, one per secret."""

    folder: Path
    passphrase: str

    def get(self, name: str) -> bytes:
        try:
            return unseal(self._path(name).read_bytes(), self.passphrase)
        except FileNotFoundError:
            raise secret_missing(name) from None

    def put(self, name: str, secret: bytes) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_durably(self._path(name), seal(secret, self.passphrase), mode=0o600)

    def delete(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{checked_name(name)}.sealed"


def checked_name(name: str) -> str:
    """Return the name of a secret. `Refused` for one that a key store would not take, on either target."""
    if not _NAME.fullmatch(name):
        raise Refused(
            f'"{name}" is no name for a secret',
            code="secret-name",
            remedy="use small letters, digits and hyphens, at most 127, a letter or digit first",
        )
    return name


def secret_missing(name: str) -> NotFound:
    """Return the error of a secret that is not there."""
    return NotFound(
        f'the key store has no secret "{name}"',
        code="secret-not-found",
        remedy="run `pulumi up` of the vault stack, which makes it",
    )


def key_store(subscription: str, folders: Folders | None = None) -> KeyStore:
    """Return the key store of a subscription's vault; nothing is asked of it yet.

    Raises `PrerequisiteMissing` (no passphrase; on target azure, an environment that names no Key Vault).
    """
    if subscription == LOCAL_SUBSCRIPTION:
        return FolderKeyStore((folders or Folders.from_environment()).key_store, passphrase())
    url = os.environ.get(KEY_VAULT_VARIABLE)
    if not url:
        raise PrerequisiteMissing(
            f"{KEY_VAULT_VARIABLE} is not set: the key store of target azure is not known",
            code="key-store-missing",
            remedy='run `eval "$(dr env --target azure)"`',
        )
    from dr.target.azure import connect  # noqa: PLC0415 - only target azure needs the SDK
    from dr.target.key_vault import KeyVaultKeyStore  # noqa: PLC0415 - as above

    return KeyVaultKeyStore(connect().secrets(url))
