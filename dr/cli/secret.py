"""`dr secret put NAME`: a password that the declaration refers to by `keyStore`, put into the site's key store."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from dr.cli.target import locate, target_option
from dr.errors import NotFound, PrerequisiteMissing, Refused

if TYPE_CHECKING:
    from dr.target.secrets import KeyStore

OURS = ("ca-", "storage-")  # what the stacks keep in the same store


@click.group()
def secret() -> None:
    """Put passwords that the declaration refers to (`keyStore: NAME`) into the site's key store."""


@secret.command()
@click.argument("name")
@click.option("--replace", is_flag=True, help="Replace the one that is there.")
@target_option("Whose key store.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def put(name: str, replace: bool, target: str | None, as_json: bool) -> None:
    """Read a secret of one line from the terminal (it is not shown) or from stdin, and keep it as NAME.

    It is kept sealed (in Key Vault on target azure) and never printed. The declaration refers to it, for example
    `sudoPassword: {keyStore: NAME}`.

    \b
    Examples:
      dr secret put shop1-sudo
      pass show shop1 | dr secret put shop1-sudo --replace
    """
    from dr.target.secrets import KEY_VAULT_VARIABLE, checked_name, key_store  # noqa: PLC0415 - loads cryptography

    if checked_name(name).startswith(OURS):
        raise Refused(
            f'"{name}" is a name of the stacks\' own keys', code="secret-name-taken", remedy="choose another name"
        )
    place = locate(target)
    if place.backend is not None:
        os.environ[KEY_VAULT_VARIABLE] = place.backend.key_store_url
    store = key_store(place.subscription)
    if not replace and _there(store, name):
        raise Refused(
            f'the key store has a secret "{name}" already', code="secret-exists", remedy="replace it with --replace"
        )
    store.put(name, _read())
    if as_json:
        click.echo(json.dumps({"name": name, "target": place.target}))
    else:
        click.echo(f'the key store of target {place.target} has the secret "{name}"')


def _read() -> bytes:
    from dr.target.references import SECRET_LIMIT_BYTES, fault  # noqa: PLC0415 - as above

    if sys.stdin.isatty():
        line = str(click.prompt("Secret", hide_input=True, confirmation_prompt=True, err=True)).encode()
    else:
        line = sys.stdin.buffer.read(SECRET_LIMIT_BYTES + 3).removesuffix(b"\n").removesuffix(b"\r")
    wrong = fault(line)
    if wrong:
        raise PrerequisiteMissing(
            f"what was given {wrong}", code="secret-invalid", remedy="give the secret, one line of at most 1,024 bytes"
        )
    return line


def _there(store: KeyStore, name: str) -> bool:
    try:
        store.get(name)
    except NotFound:
        return False
    return True
