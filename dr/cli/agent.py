"""`dr agent package`: the agent's one file, for servers that are prepared by other means than `pulumi up`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from dr.push.package import build_package

DEFAULT = Path("lifeboat-agent.pyz")


@click.group()
def agent() -> None:
    """Build the Mobility agent's package."""


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
