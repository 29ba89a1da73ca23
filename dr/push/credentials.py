"""Private keys that the declaration only refers to, found at the moment they are needed; passwords are
`dr.target.references`'. Every error names the reference and the key of the declaration it stands under.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import PasswordRequiredException

from dr.errors import PrerequisiteMissing
from dr.target.references import References

KEY_REMEDY = "name an Ed25519, ECDSA or RSA private key in OpenSSH or PEM form, readable and without a passphrase"


@dataclass(frozen=True, slots=True)
class Secrets(References):
    """Where references to passwords and private keys lead to on this machine."""

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
        return self.path(name)
