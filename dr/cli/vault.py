"""`dr vault destroy`: the explicit end of a whole vault, the only way there is."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dr.cli.purge import confirm
from dr.cli.target import choose, require_login, target_option
from dr.errors import Refused
from dr.plain import plain

if TYPE_CHECKING:
    from dr.retention.ending import VaultLoss

CHECKOUT = Path(__file__).resolve().parents[2]


@click.group()
def vault() -> None:
    """End the vault. Everything else about it is `pulumi up` of the vault stack (docs/vault.md)."""


@vault.command()
@click.option("--name", required=True, metavar="VAULT", help="Name of the vault, as `pulumi up` made it.")
@click.option("--yes", "word", metavar="VAULT", help="The vault's name again, instead of typing it when asked.")
@target_option("Whose vault.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (docs/formats/vault-destroy.schema.json).")
def destroy(name: str, *, word: str | None, target: str | None, as_json: bool) -> None:
    """Destroy the vault called VAULT with every recovery point of every server, for good.

    The stacks of the site and of every plan have to be empty, also of plans that left the declaration. Says what will
    be lost and asks for the name again. Needs the break-glass secret. Interrupted, it is ended by a second call. What
    Azure itself keeps (deleted blobs, the Key Vault behind its purge protection) ends by Azure's own rules; the key of
    the site's certificate authority stays in the key store.

    \b
    Examples:
      dr vault destroy --name rsv-lifeboat-harbour
      dr vault destroy --name rsv-lifeboat-harbour --yes rsv-lifeboat-harbour --json
    """
    from dr.compile import names  # noqa: PLC0415 - `dr --help` needs none of this
    from dr.failover.engine import Engine  # noqa: PLC0415
    from dr.local.environment import environment  # noqa: PLC0415
    from dr.local.stacks import binding_of, prepare_stack  # noqa: PLC0415
    from dr.retention import ending  # noqa: PLC0415
    from dr.target.backend import backend_of  # noqa: PLC0415
    from dr.target.folders import Folders  # noqa: PLC0415
    from dr.target.inventory import exists  # noqa: PLC0415
    from dr.target.secrets import key_store  # noqa: PLC0415
    from dr.target.stores import open_for_purge  # noqa: PLC0415

    folders, chosen = Folders.from_environment(), choose(target)
    declaration, subscription = chosen.declaration, chosen.subscription
    site = declaration.site
    wanted = names.recovery_vault(site.name)
    if name != wanted:
        raise Refused(
            f'the vault of this declaration is "{wanted}", not "{name}"',
            code="other-vault",
            remedy="check --name and LIFEBOAT_PLANS; nothing was changed",
        )
    variables = environment(chosen.target, folders, backend=backend_of(site, subscription))
    os.environ.update(variables)
    require_login(chosen.target)
    keys = key_store(subscription, folders)  # a missing passphrase is told before anything is asked
    own, binding = f"vault-{chosen.target}", binding_of(chosen.target, declaration)
    prepare_stack(own, project=CHECKOUT, environment=variables, binding=binding, folders=folders)
    stack = Engine(CHECKOUT, own, {**os.environ, ending.ENDING: name})
    there = ending.standing(stack.state(), site, subscription, lambda each: exists(subscription, each, folders))
    # Whoever can't open the key store can't end a history, whatever else they may do.
    if there.keys:
        keys.get(names.certificate_authority(site.name))
    others = [each for each in stack.listed() if each != own]
    ending.refuse_standing({each: Engine(CHECKOUT, each, os.environ).state() for each in others})
    if there.account:
        account = names.storage_account(site.name, subscription)
        with closing(open_for_purge(subscription, account, folders)) as store:
            ending.refuse_runs(store, chosen.target)
            loss = ending.survey(stack, store)
    else:
        loss = ending.survey(stack, None)
    if not as_json:
        _show(name, loss, chosen.target)
    confirm(name, word, ask=not as_json)
    ending.end_vault(stack, lambda event: None)
    if as_json:
        click.echo(json.dumps({"vault": name, "target": chosen.target, "destroyed": loss.as_dict()}))
    else:
        click.echo(f"{name}: destroyed")


def _show(name: str, loss: VaultLoss, target: str) -> None:
    where = "LOCAL" if target == "local" else "Azure"
    click.echo(plain(f"{name} ({where}): this destroys for good"), err=True)
    for server, points in loss.points.items():
        click.echo(plain(f"    {server}: {points} recovery points and its replica"), err=True)
    click.echo(f"    {loss.resources} resources of the vault's stack", err=True)
