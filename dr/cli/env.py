"""`dr env`: the environment of a target."""

from __future__ import annotations

import json
import shlex

import click

from dr.local.environment import LOCAL, TARGETS, environment, stale
from dr.target.folders import Folders


@click.command()
@click.option("--target", type=click.Choice(TARGETS), default=LOCAL, show_default=True, help="Which target to choose.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object; null means: remove the variable.")
def env(target: str, as_json: bool) -> None:
    """Print the environment that chooses a target, as shell exports: `eval "$(dr env)"`.

    Plain `pulumi up`, `preview` and `destroy` work in that shell. Nothing is started or changed.
    """
    folders = Folders.from_environment()
    chosen = environment(target, folders)
    removed = stale(target, folders)
    if as_json:
        click.echo(json.dumps({**chosen, **dict.fromkeys(removed)}, indent=2))
        return
    for name, value in chosen.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    for name in removed:
        click.echo(f"unset {name}")
