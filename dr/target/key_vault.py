"""The key store of target azure: the secrets of a Key Vault.

- A value is stored as the text it is, so that a person can put one by hand (`az keyvault secret set`); bytes that are
  no text are stored as base64 and marked by their content type.
- Key Vault keeps a deleted secret for the vault's retention, and nothing can be stored under its name meanwhile. So
  `put` takes the deleted one back first; its value is replaced at once.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.keyvault.secrets import SecretClient

from dr.errors import Refused
from dr.target.azure import failure
from dr.target.secrets import checked_name, secret_missing

BASE64 = "application/octet-stream;base64"
MAX_BYTES = 25_000  # of a secret's text; the service refuses more
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class KeyVaultKeyStore:
    """`KeyStore` on a Key Vault. Never tried against the real service."""

    client: SecretClient

    def get(self, name: str) -> bytes:
        try:
            secret = _asked(name, lambda: self.client.get_secret(checked_name(name)))
        except ResourceNotFoundError:
            raise secret_missing(name) from None
        text = secret.value or ""
        return base64.b64decode(text) if secret.properties.content_type == BASE64 else text.encode()

    def put(self, name: str, secret: bytes) -> None:
        text, content_type = _text(secret)
        if len(text) > MAX_BYTES:
            raise Refused(f'the secret "{name}" is longer than Key Vault takes ({MAX_BYTES} bytes)')

        def store() -> None:
            self.client.set_secret(checked_name(name), text, content_type=content_type)

        try:
            _asked(name, store)
        except ResourceExistsError:
            _asked(name, lambda: self.client.begin_recover_deleted_secret(name).wait())
            _asked(name, store)

    def delete(self, name: str) -> None:
        try:
            _asked(name, lambda: self.client.begin_delete_secret(checked_name(name)).wait())
        except ResourceNotFoundError:
            return


def _text(secret: bytes) -> tuple[str, str | None]:
    try:
        return secret.decode(), None
    except UnicodeDecodeError:
        return base64.b64encode(secret).decode(), BASE64


def _asked(name: str, call: Callable[[], T]) -> T:
    """Call the service; what its user handles here is raised as it is, all else as an error of ours."""
    try:
        return call()
    except ResourceNotFoundError:
        raise
    except ResourceExistsError as error:
        if "ObjectIsDeletedButRecoverable" in str(error):
            raise
        raise failure(error, f'the secret "{name}"') from error
    except AzureError as error:
        raise failure(error, f'the secret "{name}"') from error
