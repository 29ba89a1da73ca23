"""How to log in to a server, from a resource's properties (`stacks.resources` writes them); no secret is in them."""

from __future__ import annotations

from typing import Any

from dr.model import JumpHost, SecretReference, Ssh
from dr.provider.resource import Properties


def ssh(given: Properties) -> Ssh:
    """Read the property `ssh`."""
    jump = given.get("jump")
    return Ssh(
        **_login(given),
        password=reference(given.get("password")),
        sudo_password=reference(given.get("sudoPassword")),
        jump=JumpHost(**_login(jump)) if jump else None,
    )


def reference(given: Properties | None) -> SecretReference | None:
    """Read a reference to a secret."""
    return SecretReference(given.get("env"), given.get("file"), given.get("keyStore")) if given else None


def _login(given: Properties) -> dict[str, Any]:
    return {
        "address": given["address"],
        "port": given["port"],
        "user": given["user"],
        "key_file": given.get("keyFile"),
        "key_env": given.get("keyEnv"),
        "host_key": given["hostKey"],
    }
