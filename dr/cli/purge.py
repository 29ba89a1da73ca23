"""`dr purge SERVER`: the explicit end of one server's history."""

from __future__ import annotations

import json
from contextlib import closing

import click

from dr.cli.target import choose, require_login, target_option
from dr.errors import Refused
from dr.plain import plain


@click.command()
@click.argument("server")
@click.option("--yes", "word", metavar="NAME", help="The server's name again, instead of typing it when asked.")
@target_option("Whose vault.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (docs/formats/purge.schema.json).")
def purge(server: str, *, word: str | None, target: str | None, as_json: bool) -> None:
    """Remove every recovery point and the replica of SERVER, for good.

    Take the server out of the declaration and run `pulumi up` of the site stack first: a protected server is refused,
    and so is one whose point a run uses. Without this command the points of a server that left are kept for their
    retention and 14 days. Needs the break-glass secret. Stopped half-way, it is ended by a second call.

    \b
    Examples:
      dr purge old1
      dr purge old1 --yes old1 --json
    """
    from dr.compile import names  # noqa: PLC0415 - `dr --help` needs none of this
    from dr.retention import purge as work  # noqa: PLC0415
    from dr.target.folders import Folders  # noqa: PLC0415
    from dr.target.secrets import key_store  # noqa: PLC0415
    from dr.target.stores import open_for_purge  # noqa: PLC0415

    chosen, folders = choose(target), Folders.from_environment()
    if server in chosen.declaration.servers:
        raise Refused(
            f"{server} is declared: what is removed now would come back with the next `up`",
            code="still-protected",
            remedy=f"take {server} out of the declaration and run `pulumi up` of the site stack first",
        )
    site, subscription = chosen.declaration.site.name, chosen.subscription
    require_login(chosen.target)
    # Whoever can't open the key store can't end a history, whatever else they may do.
    key_store(subscription, folders).get(names.certificate_authority(site))
    account = names.storage_account(site, subscription)
    with closing(open_for_purge(subscription, account, folders)) as store:
        work.refuse(store, server)
        loss = work.survey(store, server)
        if not as_json:
            _show(loss.as_dict(), chosen.target)
        confirm(server, word, ask=not as_json)
        removed = work.purge(store, server)
    if as_json:
        click.echo(json.dumps({"server": server, "target": chosen.target, "removed": removed.as_dict()}))
    else:
        click.echo(plain(f"{server}: removed"))


def _show(loss: dict[str, object], target: str) -> None:
    where = "LOCAL" if target == "local" else "Azure"
    span = f", from {loss['oldest']} to {loss['newest']}" if loss["points"] else ""
    click.echo(plain(f"{loss['server']} ({where}): this removes for good"), err=True)
    click.echo(plain(f"    {loss['points']} recovery points{span}; {loss['pinned']} of them pinned"), err=True)
    if loss["unreadable_points"]:
        click.echo(f"    {loss['unreadable_points']} recovery points that can't be read", err=True)
    replicas = loss["replicas"]
    assert isinstance(replicas, list)
    click.echo(plain(f"    the replica: {', '.join(replicas) or 'none'}, {loss['disk_bytes']} bytes of disk"), err=True)


def confirm(name: str, word: str | None, *, ask: bool) -> None:
    """Raise `Refused` unless the name was given a second time, by --yes or at the terminal."""
    if word is None and ask:
        word = click.prompt("type its name to remove it", err=True, default="", show_default=False)
    if word != name:
        raise Refused(
            f'"{name}" was not named a second time; nothing was removed' if not word else f'"{word}" is not "{name}"',
            code="not-confirmed",
            remedy=f"`--yes {name}` removes what the lines above name",
        )
