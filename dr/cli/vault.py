"""`dr vault destroy`: the explicit end of a whole vault, the only way there is."""

from __future__ import annotations

import json
import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dr.cli.purge import confirm
from dr.errors import NotFound, PrerequisiteMissing, Refused
from dr.plain import plain

if TYPE_CHECKING:
    from dr.model import Declaration
    from dr.retention.ending import Destroyable, VaultLoss
    from dr.target.folders import Folders

CHECKOUT = Path(__file__).resolve().parents[2]


@click.group()
def vault() -> None:
    """End the vault. Everything else about it is `pulumi up` of the vault stack (docs/vault.md)."""


@vault.command()
@click.option("--name", required=True, metavar="VAULT", help="Name of the vault, as `pulumi up` made it.")
@click.option("--yes", "word", metavar="VAULT", help="The vault's name again, instead of typing it when asked.")
@click.option(
    "--target", default="local", show_default=True, type=click.Choice(["local", "azure"]), help="Whose vault."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (docs/formats/vault-destroy.schema.json).")
def destroy(name: str, *, word: str | None, target: str, as_json: bool) -> None:
    """Destroy the vault called VAULT with every recovery point of every server, for good.

    The stacks of the site and of every plan have to be empty. Says what will be lost and asks for the name again. Needs
    the break-glass secret. Interrupted, it is ended by a second call. What Azure itself keeps (deleted blobs, the Key
    Vault behind its purge protection) ends by Azure's own rules; the key of the site's certificate authority stays in
    the key store.

    \b
    Examples:
      dr vault destroy --name rsv-lifeboat-harbour
      dr vault destroy --name rsv-lifeboat-harbour --yes rsv-lifeboat-harbour --json
    """
    from dr.compile import names  # noqa: PLC0415 - `dr --help` needs none of this
    from dr.failover.engine import Engine  # noqa: PLC0415
    from dr.local.environment import environment  # noqa: PLC0415
    from dr.retention import ending  # noqa: PLC0415
    from dr.schema import load  # noqa: PLC0415
    from dr.target.folders import LOCAL_SUBSCRIPTION, Folders  # noqa: PLC0415
    from dr.target.secrets import key_store  # noqa: PLC0415

    folders = Folders.from_environment()
    os.environ.update(environment(target, folders))
    declaration = load(Path(os.environ["LIFEBOAT_PLANS"]))
    site = declaration.site
    wanted = names.recovery_vault(site.name)
    if name != wanted:
        raise Refused(
            f'the vault of this declaration is "{wanted}", not "{name}"',
            code="other-vault",
            remedy="check --name and LIFEBOAT_PLANS; nothing was changed",
        )
    subscription = LOCAL_SUBSCRIPTION if target == "local" else site.subscription
    if not subscription:
        raise PrerequisiteMissing(
            "the declaration names no subscription for target azure", remedy="set site.subscription in plans/"
        )
    # Whoever can't open the key store can't end a history, whatever else they may do.
    key_store(subscription, folders).get(names.certificate_authority(site.name))
    _prepare(declaration, target, folders)
    stack = Engine(CHECKOUT, f"vault-{target}", {**os.environ, ending.ENDING: name})
    others = [f"site-{target}", *(f"failover-{plan}-{target}" for plan in declaration.plans)]
    ending.refuse_standing({each: Engine(CHECKOUT, each, os.environ).state() for each in others})
    loss = _survey(stack, subscription, names.storage_account(site.name, subscription), folders)
    if not as_json:
        _show(name, loss, target)
    confirm(name, word, ask=not as_json)
    ending.end_vault(stack, lambda event: None)
    if as_json:
        click.echo(json.dumps({"vault": name, "target": target, "destroyed": loss.as_dict()}))
    else:
        click.echo(f"{name}: destroyed")


def _prepare(declaration: Declaration, target: str, folders: Folders) -> None:
    """Give a fresh checkout the configuration of the local stack; target azure's is in its backend."""
    from dr.local.environment import environment  # noqa: PLC0415 - as above
    from dr.local.stacks import prepare_stack  # noqa: PLC0415

    if target == "local":
        site = declaration.site
        prepare_stack(
            "vault-local",
            project=CHECKOUT,
            folders=folders,
            environment=environment(target, folders),
            site=site.name,
            location=site.location,
        )


def _survey(stack: Destroyable, subscription: str, account: str, folders: Folders) -> VaultLoss:
    from dr.retention import ending  # noqa: PLC0415 - as above
    from dr.target.stores import open_for_purge  # noqa: PLC0415

    try:
        with closing(open_for_purge(subscription, account, folders)) as store:
            return ending.survey(stack, store)
    except NotFound:
        return ending.survey(stack, None)  # an earlier call has destroyed the account already


def _show(name: str, loss: VaultLoss, target: str) -> None:
    where = "LOCAL" if target == "local" else "Azure"
    click.echo(plain(f"{name} ({where}): this destroys for good"), err=True)
    for server, points in loss.points.items():
        click.echo(plain(f"    {server}: {points} recovery points and its replica"), err=True)
    click.echo(f"    {loss.resources} resources of the vault's stack", err=True)
