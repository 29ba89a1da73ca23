"""`dr env`: the environment of a target."""

from __future__ import annotations

import json
import shlex

import click

from dr.cli.target import AZURE, LOCAL, choose, target_option
from dr.cli.validate import default_folder
from dr.local.environment import environment, stale
from dr.target.backend import Backend, backend_of
from dr.target.choice import told
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
    folders = Folders.from_environment()
    target, backend = _meant(target)
    chosen = environment(target, folders, backend=backend)
    removed = stale(target, folders)
    if as_json:
        click.echo(json.dumps({**chosen, **dict.fromkeys(removed)}, indent=2))
        return
    for name, value in chosen.items():
        click.echo(f"export {name}={shlex.quote(value)}")
    for name in removed:
        click.echo(f"unset {name}")


def _meant(flag: str | None) -> tuple[str, Backend | None]:
    """Return the target, and its backend where the declaration tells it: target local needs no declaration."""
    said = told(flag)
    if said == LOCAL or (said is None and not default_folder().exists()):
        return LOCAL, None
    chosen = choose(said)
    backend = backend_of(chosen.declaration.site, chosen.subscription) if chosen.target == AZURE else None
    return chosen.target, backend
