"""`dr local up|status|down`: the processes of the local target."""

from __future__ import annotations

import json
import os
from pathlib import Path

import click

from dr.errors import Degraded
from dr.local import services
from dr.local.environment import environment
from dr.schema import load
from dr.target.choice import LOCAL
from dr.target.folders import Folders


@click.group()
def local() -> None:
    """Start, show or stop the local target: this machine plays Azure and runs the site's servers.

    Storage is Azurite, virtual machines are QEMU; everything lies below $LIFEBOAT_LOCAL.
    """


@local.command()
@click.option("--cloud", "half", flag_value="cloud", help="Only what plays Azure.")
@click.option("--site", "half", flag_value="site", help="Only the site's servers.")
def up(half: str | None) -> None:
    """Start what is not running, and make folders, secret, plugin and stacks where they are missing.

    Afterwards: `eval "$(dr env)"`, then `pulumi up -s vault-local` and `pulumi up -s site-local`.
    """
    folders = Folders.from_environment()
    with services.one_at_a_time(folders, click.echo):
        if half in {None, "cloud"}:
            declaration = load(Path(environment(LOCAL, folders, os.environ)["LIFEBOAT_PLANS"]))
            services.up_cloud(folders, declaration, click.echo)
        if half in {None, "site"}:
            services.up_site(folders, click.echo)


@local.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object.")
def status(as_json: bool) -> None:
    """Show each process: running, stopped, or gone (it ended by itself; exit code 7)."""
    folders = Folders.from_environment()
    parts = list(services.status(folders))
    if as_json:
        content = {"target": LOCAL, "root": str(folders.root), "processes": [part.as_dict() for part in parts]}
        click.echo(json.dumps(content, indent=2))
    else:
        for part in parts:
            pid = f"pid {part.pid}" if part.pid else ""
            click.echo(f"{part.name:<24} {part.state:<8} {pid:<12} {part.detail}".rstrip())
    gone = [part.name for part in parts if part.state == "gone"]
    if gone and as_json:
        raise SystemExit(Degraded.exit_code)
    if gone:
        raise Degraded(
            f"ended without being stopped: {', '.join(gone)}",
            remedy="`dr local up` starts servers again; a VM comes back by `pulumi refresh` and `pulumi up`",
        )


@local.command()
@click.option("--machines", is_flag=True, help="Stop the recovered VMs too.")
def down(machines: bool) -> None:
    """Stop the processes gently. Data stays; recovered VMs run on unless --machines is given."""
    folders = Folders.from_environment()
    if not folders.root.exists():
        click.echo(f"nothing is there: {folders.root}")
        return
    with services.one_at_a_time(folders, click.echo):
        services.down(folders, click.echo, stop_machines=machines)
