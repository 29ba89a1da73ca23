"""`dr agent …`: the agent in one file and its token, for a server that `up` does not prepare; what was done to one."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from dr.durable import write_durably
from dr.errors import NotFound
from dr.push.package import build_package

DEFAULT = Path("lifeboat-agent.pyz")
CHECKOUT = Path(__file__).resolve().parents[2]
TARGET = click.option(
    "--target", default="local", show_default=True, type=click.Choice(["local", "azure"]), help="The site's target."
)


@click.group()
def agent() -> None:
    """Build the Mobility agent's package, make a token for it; see what was done to a server."""


@agent.command()
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default=DEFAULT,
    show_default=True,
    help="The file to write; its folder is made.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def package(output: Path, as_json: bool) -> None:
    """Write the agent as one file; the same checkout gives the same bytes."""
    digest = build_package(output)
    if as_json:
        click.echo(json.dumps({"file": str(output), "sha256": digest}))
    else:
        click.echo(f"{digest}  {output}")


@agent.command()
@click.argument("server")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write, for you alone to read; without it the token goes to a pipe.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object about the file; needs --output.")
def token(server: str, output: Path | None, as_json: bool) -> None:
    """Make a token with which the agent of SERVER gets its certificate: once, within the hour.

    It is a secret: it goes to a pipe or a file, never to a terminal. On the server it belongs into
    /etc/lifeboat/tls/token.pem, mode 0600; the agent takes it up within a second and removes it. To be run on the
    site's machine.

    \b
    Example:
      dr agent token shop1 | ssh shop1 'sudo install -m 0600 /dev/stdin /etc/lifeboat/tls/token.pem'
    """
    from dr.certificates.site import SiteCertificates  # noqa: PLC0415 - loads cryptography
    from dr.config_server import settings  # noqa: PLC0415 - as above
    from dr.target.folders import Folders  # noqa: PLC0415

    if output is None and (as_json or sys.stdout.isatty()):
        raise click.UsageError("a token is a secret: pipe it to the server, or name a file by --output")
    site = Folders.from_environment().site
    known = settings.load(site / "config.json").servers
    if server not in known:
        raise NotFound(
            f'no server "{server}" is protected by this site',
            code="unknown-server",
            remedy="add it to the declaration and run `pulumi up` of the site stack first",
        )
    made = SiteCertificates(site).token(server)
    if output is None:
        click.echo(made, nl=False)
        return
    write_durably(output, made, mode=0o600)
    click.echo(json.dumps({"file": str(output), "server": server}) if as_json else f"token of {server} in {output}")


@agent.command()
@click.argument("server")
@TARGET
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def log(server: str, target: str, as_json: bool) -> None:
    """Show what installations did to SERVER: when, from where, which steps, how it ended.

    It is read from the state of the stack site-TARGET. The server's own journal has the same steps and those of a
    removal: journalctl -t lifeboat-install.
    """
    entries = _entries(server, target)
    if as_json:
        click.echo(json.dumps({"server": server, "log": entries}))
        return
    for entry in entries:
        click.echo(f"{entry['at']}  {entry['from']}  agent {entry['agent'][:12]}  {entry['outcome']}")
        for step in entry["steps"]:
            click.echo(f"    {step}")


def _entries(server: str, target: str) -> list[Mapping[str, Any]]:
    from dr.failover.engine import Engine  # noqa: PLC0415 - only this command asks Pulumi
    from dr.local.environment import environment  # noqa: PLC0415
    from dr.target.folders import Folders  # noqa: PLC0415

    os.environ.update(environment(target, Folders.from_environment()))
    stack = f"site-{target}"
    state = Engine(CHECKOUT, stack, os.environ).state()
    held = [each for each in (state or {}).get("resources", ()) if each["type"] == "dr:index:Protection"]
    for each in held:
        if each["outputs"].get("server") == server:
            found: list[Mapping[str, Any]] = each["outputs"].get("log", [])
            return found
    raise NotFound(
        f'the stack {stack} protects no server "{server}"',
        code="server-not-protected",
        remedy="see `dr status`; after a removal only the server's journal and `pulumi stack history` know",
    )
