"""What the declaration only refers to, found at the moment it is needed: passwords and private keys.

Rules:
- A reference names an environment variable, a file or an entry of the site's key store. Every error names the
  reference and the key of the declaration it stands under, and never the secret.
- A relative path counts from the declaration's folder.
- A password is one line. What has several (a private key, say) is refused before it is sent anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import PasswordRequiredException

from dr.errors import LifeboatError, NotFound, PrerequisiteMissing
from dr.model import SecretReference
from dr.target.secrets import KeyStore

PASSWORD_LIMIT_BYTES = 1024
KEY_REMEDY = "name an Ed25519, ECDSA or RSA private key in OpenSSH or PEM form, readable and without a passphrase"


def _no_key_store() -> KeyStore:
    raise PrerequisiteMissing("no key store is at hand", code="key-store-missing", remedy="refer to env or file")


@dataclass(frozen=True, slots=True)
class Secrets:
    """Where references lead to on this machine; `key_store` is opened only when one leads there."""

    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    key_store: Callable[[], KeyStore] = _no_key_store

    def password(self, reference: SecretReference, what: str) -> str:
        """Return the password that `reference` leads to; `what` is where the reference stands ("shop1: ssh.password").

        Raises `PrerequisiteMissing` "secret-missing" or "secret-invalid".
        """
        raw = self._raw(reference, what)
        where = described(reference)
        for line_end in (b"\r\n", b"\n"):
            if raw.endswith(line_end):
                raw = raw[: -len(line_end)]
                break
        wrong = None
        if not raw:
            wrong = "is empty"
        elif any(byte in raw for byte in b"\r\n\0") or len(raw) > PASSWORD_LIMIT_BYTES:
            wrong = "is no password: it is longer than one line"
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text, wrong = "", "is no text in UTF-8"
        if wrong:
            remedy = "put the password there, one line and nothing else"
            raise PrerequisiteMissing(f"{what}: {where} {wrong}", code="secret-invalid", remedy=remedy)
        return text

    def key(self, key_file: str | None, key_env: str | None, what: str) -> paramiko.PKey:
        """Return the private key in the file `key_file`, or in the one whose path the variable `key_env` holds.

        Raises `PrerequisiteMissing` "ssh-key-missing", "ssh-key-encrypted" or "ssh-key-invalid".
        """
        path = self.key_path(key_file, key_env, what)
        try:
            return paramiko.PKey.from_path(path)
        except (PasswordRequiredException, TypeError) as error:
            message, code = f"the SSH key {path} has a passphrase", "ssh-key-encrypted"
            raise PrerequisiteMissing(f"{what}: {message}", code=code, remedy=KEY_REMEDY) from error
        except OSError as error:
            message = f"the SSH key {path} cannot be read: {error.strerror}"
            raise PrerequisiteMissing(f"{what}: {message}", code="ssh-key-missing", remedy=KEY_REMEDY) from error
        except (ValueError, UnsupportedAlgorithm, UnknownKeyType, paramiko.SSHException) as error:
            message = f"{path} is not a usable SSH key: {type(error).__name__}"
            raise PrerequisiteMissing(f"{what}: {message}", code="ssh-key-invalid", remedy=KEY_REMEDY) from error

    def key_path(self, key_file: str | None, key_env: str | None, what: str) -> Path:
        """Return the path of the private key. Raises `PrerequisiteMissing` when the variable is not set."""
        name = self.environment.get(key_env, "") if key_env is not None else key_file
        if not name:
            raise PrerequisiteMissing(
                f"{what}: the environment variable {key_env} is not set",
                code="ssh-key-missing",
                remedy=f"export {key_env}=/path/of/the/private/key",
            )
        return self._path(name)

    def _path(self, name: str) -> Path:
        path = Path(name).expanduser()
        if path.is_absolute():
            return path
        plans = self.environment.get("LIFEBOAT_PLANS")
        return (Path(plans) if plans else Path(__file__).parents[2] / "plans") / path

    def _raw(self, reference: SecretReference, what: str) -> bytes:
        where = described(reference)
        if reference.env is not None:
            value = self.environment.get(reference.env)
            if value is None:
                remedy = f"set {reference.env} in the environment that `pulumi` and `dr` run in"
                raise PrerequisiteMissing(f"{what}: {where} is not set", code="secret-missing", remedy=remedy)
            return os.fsencode(value)
        if reference.file is not None:
            return self._file(reference.file, what)
        return self._stored(reference.key_store or "", what)

    def _file(self, name: str, what: str) -> bytes:
        path = self._path(name)
        try:
            with path.open("rb") as file:
                return file.read(PASSWORD_LIMIT_BYTES + 3)
        except OSError as error:
            raise PrerequisiteMissing(
                f"{what}: the file {path} cannot be read: {error.strerror}",
                code="secret-missing",
                remedy="put the password into it, one line, readable for you alone (mode 0600)",
            ) from error

    def _stored(self, name: str, what: str) -> bytes:
        try:
            return self.key_store().get(name)
        except NotFound as error:
            raise PrerequisiteMissing(
                f'{what}: the key store has no secret "{name}"',
                code="secret-missing",
                remedy=f"put it there with `dr secret put {name}`",
            ) from error
        except LifeboatError as error:
            message = f'{what}: the secret "{name}" cannot be had from the key store: {error.message}'
            raise PrerequisiteMissing(message, code=error.code, remedy=error.remedy) from error


def described(reference: SecretReference) -> str:
    """Return a reference as messages call it."""
    if reference.env is not None:
        return f"the environment variable {reference.env}"
    if reference.file is not None:
        return f"the file {reference.file}"
    return f'the secret "{reference.key_store}" of the key store'
