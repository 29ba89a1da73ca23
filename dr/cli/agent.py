"""`dr agent …`: the agent in one file and its token, for a server that `up` does not prepare; what was done to one."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dr.cli.naming import about, unknown_server
from dr.cli.target import LOCAL, choose, locate, require_login, target_option
from dr.durable import write_durably
from dr.errors import NotFound, PrerequisiteMissing, Refused
from dr.push.package import current_package

if TYPE_CHECKING:
    from dr.compile.blueprint import ProtectionBlueprint
    from dr.push.bundle import Made

DEFAULT = Path("lifeboat-agent")
CHECKOUT = Path(__file__).resolve().parents[2]


@click.group()
def agent() -> None:
    """Build the Mobility agent's package, make a token for it; see what was done to a server."""


@agent.command()
@click.argument("servers", metavar="[SERVER]...", nargs=-1)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT,
    show_default=True,
    help="The folder to write; it is made.",
)
@target_option("The site's target.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def package(servers: tuple[str, ...], output: Path, target: str | None, as_json: bool) -> None:
    """Write the agent as one file and, for each SERVER, what installs it there without SSH from here.

    For each SERVER a folder OUTPUT/SERVER is written, in two steps. First ask.sh: run it as root on the server (it
    changes nothing) and save what it prints as OUTPUT/SERVER/answer.txt. Then call this again: either everything that
    stands against the installation is told, or install.sh and remove.sh are written. OUTPUT/tasks.yml has the same
    way as tasks for Ansible. docs/agent-install.md explains it.

    Exit codes: 0 written, 6 something stands against an installation, 8 no such server.

    \b
    Examples:
      dr agent package
      dr agent package shop1 --output bundle
    """
    chosen = _chosen(servers, target) if servers else {}
    file = output / "lifeboat-agent.pyz"
    digest = _program(file)
    made = _bundle(output, chosen, file) if chosen else {}
    if as_json:
        states = {
            name: {"state": each.state, "message": each.message, "concerns": list(each.concerns)}
            for name, each in made.items()
        }
        click.echo(json.dumps({"file": str(file), "sha256": digest, "servers": states}))
    else:
        click.echo(f"{digest}  {file}")
        _show(output, made)
    blocked = [each.message for each in made.values() if each.state == "blocked"]
    if blocked and as_json:
        sys.exit(Refused.exit_code)
    if blocked:
        remedy = "remove what stands against it, then run ask.sh there again"
        raise Refused("\n".join(blocked), code="install-blocked", remedy=remedy)


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
    with about(server):
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
@target_option("The site's target.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def log(server: str, target: str | None, as_json: bool) -> None:
    """Show what installations did to SERVER: when, from where, which steps, how it ended.

    It is read from the state of the stack site-TARGET. The server's own journal has the same steps and those of a
    removal: journalctl -t lifeboat-install.
    """
    with about(server):
        entries = _entries(server, target)
    if as_json:
        click.echo(json.dumps({"server": server, "log": entries}))
        return
    for entry in entries:
        click.echo(f"{entry['at']}  {entry['from']}  agent {entry['agent'][:12]}  {entry['outcome']}")
        for step in entry["steps"]:
            click.echo(f"    {step}")


def _entries(server: str, target: str | None) -> list[Mapping[str, Any]]:
    from dr.failover.engine import Engine  # noqa: PLC0415 - only this command asks Pulumi
    from dr.target.folders import Folders  # noqa: PLC0415 - as above

    place = locate(target)
    os.environ.update(place.variables())
    require_login(place.target)
    if place.target == LOCAL and not Folders.from_environment().state.exists():
        raise PrerequisiteMissing(
            "target local is not there, so nothing was installed from here",
            code="local-target-missing",
            remedy="check LIFEBOAT_LOCAL; `dr local up` makes a new, empty one",
        )
    stack = f"site-{place.target}"
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


def _program(file: Path) -> str:
    """Write the agent's file, unless it is right already; return its SHA-256."""
    content = current_package().read_bytes()
    if not file.is_file() or file.read_bytes() != content:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(file, content, mode=0o644)
    return hashlib.sha256(content).hexdigest()


def _chosen(servers: Sequence[str], target: str | None) -> Mapping[str, ProtectionBlueprint]:
    """Return the declared servers of these names."""
    from dr import compile as compiler  # noqa: PLC0415 - `dr --help` must not load the schema

    place = choose(target)
    declared = {each.server: each for each in compiler.site(place.declaration, place.subscription).protections}
    for name in servers:
        if name not in declared:
            raise unknown_server(name, declared)
    return {name: declared[name] for name in servers}


def _bundle(output: Path, chosen: Mapping[str, ProtectionBlueprint], program: Path) -> Mapping[str, Made]:
    from dr.certificates.site import SiteCertificates  # noqa: PLC0415 - loads cryptography
    from dr.cli.validate import default_folder  # noqa: PLC0415 - `dr --help` must not load the schema
    from dr.push.bundle import write_bundle  # noqa: PLC0415 - as above
    from dr.schema import load  # noqa: PLC0415
    from dr.target.folders import Folders  # noqa: PLC0415

    return write_bundle(
        output,
        load(default_folder()).site.name,
        tuple(chosen.values()),
        package=program.read_bytes(),
        authority_pem=SiteCertificates(Folders.from_environment().site).authority_pem,
    )


def _show(output: Path, made: Mapping[str, Made]) -> None:
    for name, each in made.items():
        for line in each.concerns:
            click.echo(f"{name}: {line}")
        if each.state == "asked":
            click.echo(f"{name}: as root there `sh ask.sh >answer.txt`; bring it to {output / name}, call this again")
        elif each.state == "ready":
            click.echo(f"{name}: {output / name / 'install.sh'} is ready")
