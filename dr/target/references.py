"""What a declaration's secret references lead to, found at the moment it is needed.

Rules:
- A reference names an environment variable, a file or an entry of the site's key store. Every error names the
  reference and where it stands in the declaration, and never the secret.
- A relative path counts from the declaration's folder.
- A secret is one line of text; what has several (a private key, say) is refused before it is sent anywhere.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dr.errors import LifeboatError, NotFound, PrerequisiteMissing
from dr.model import SecretReference
from dr.target.secrets import KeyStore

SECRET_LIMIT_BYTES = 1024


def _no_key_store() -> KeyStore:
    raise PrerequisiteMissing("no key store is at hand", code="key-store-missing", remedy="refer to env or file")


def fault(secret: bytes) -> str | None:
    """Say what keeps `secret` (without its line's end) from being one, as it ends a sentence, or None."""
    if not secret:
        return "is empty"
    if any(byte in secret for byte in b"\r\n\0") or len(secret) > SECRET_LIMIT_BYTES:
        return "is longer than one line"
    try:
        secret.decode()
    except UnicodeDecodeError:
        return "is no text in UTF-8"
    return None


@dataclass(frozen=True, slots=True)
class References:
    """Where references lead to on this machine; `key_store` is opened only when one leads there."""

    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    key_store: Callable[[], KeyStore] = _no_key_store

    def reveal(self, reference: SecretReference, what: str) -> str:
        """Return the secret that `reference` leads to; `what` is where it stands ("site: gateway.vpn.sharedKey").

        Raises `PrerequisiteMissing` "secret-missing" or "secret-invalid"; what the key store raises keeps its code.
        """
        raw = self._raw(reference, what).removesuffix(b"\n").removesuffix(b"\r")
        wrong = fault(raw)
        if wrong:
            raise PrerequisiteMissing(
                f"{what}: {described(reference)} {wrong}",
                code="secret-invalid",
                remedy="put the secret there, one line and nothing else",
            )
        return raw.decode()

    def path(self, name: str) -> Path:
        """Return the path that a declaration's text stands for; a relative one counts from the declaration's folder."""
        path = Path(name).expanduser()
        if path.is_absolute():
            return path
        plans = self.environment.get("LIFEBOAT_PLANS")
        return (Path(plans) if plans else Path(__file__).parents[2] / "plans") / path

    def _raw(self, reference: SecretReference, what: str) -> bytes:
        if reference.env is not None:
            return self._variable(reference.env, what)
        if reference.file is not None:
            return self._file(self.path(reference.file), what)
        return self._stored(reference.key_store or "", what)

    def _variable(self, name: str, what: str) -> bytes:
        value = self.environment.get(name)
        if value is None:
            raise PrerequisiteMissing(
                f"{what}: the environment variable {name} is not set",
                code="secret-missing",
                remedy=f"set {name} in the environment that `pulumi` and `dr` run in",
            )
        return os.fsencode(value)

    def _file(self, path: Path, what: str) -> bytes:
        try:
            with path.open("rb") as file:
                return file.read(SECRET_LIMIT_BYTES + 3)  # a line's end, and one byte that tells it is too long
        except OSError as error:
            raise PrerequisiteMissing(
                f"{what}: the file {path} cannot be read: {error.strerror}",
                code="secret-missing",
                remedy="put the secret into it, one line, readable for you alone (mode 0600)",
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
