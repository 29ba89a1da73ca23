"""`dr env`: the environment of a target."""

from __future__ import annotations

import json
import shlex

import click

from dr.cli.target import locate, target_option
from dr.local.environment import stale
from dr.target.folders import Folders


@click.command()
@target_option("Which target to choose.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object; null means: remove the variable.")
def env(target: str | None, as_json: bool) -> None:
    """Print the environment that chooses a target, as shell exports: `eval "$(dr env)"`.

    Plain `pulumi up`, `preview` and `destroy` work in that shell. Nothing is started, changed or asked of Azure.
    On target azure the places follow from the declaration: the state in a blob container and the key of its secrets,
    both made by `dr bootstrap`.
    """
    place = locate(target)
    chosen, removed = place.variables(), stale(place.target, Folders.from_environment())
    if as_json:
        click.echo(json.dumps({**chosen, **dict.fromkeys(removed)}, indent=2))
        return
    for name, value in chosen.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    for name in removed:
        click.echo(f"unset {name}")
