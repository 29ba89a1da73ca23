"""`dr bootstrap`: what must be there before the first stack, made once."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from dr.cli.target import LOCAL, Chosen, choose, target_option
from dr.errors import Refused

if TYPE_CHECKING:
    from dr.target.azure import Azure

Done = dict[str, Any]


@click.command()
@target_option("Where.")
@click.option("--operator", "operators", multiple=True, metavar="OBJECT_ID", help="Another who may change the stacks.")
@click.option("--dry-run", is_flag=True, help="Say what would be made, and make nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (docs/formats/bootstrap.schema.json).")
def bootstrap(target: str | None, operators: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Make the place of the stacks' state and the key of its secrets, where they are missing, and the stacks.

    Target azure: resource group, storage account, container, Key Vault, key, the roles on both for you and each
    OBJECT_ID (a person, group or application of Entra), and a lock. Needs the right to make resources and to give
    roles (docs/azure.md, Roles). Target local: the folders and the operator's envelope. A second run changes nothing.

    \b
    Examples:
      dr bootstrap --dry-run
      dr bootstrap --target azure --operator 0f9e8d7c-6b5a-4c3d-8e2f-1a0b9c8d7e6f
    """
    chosen = choose(target)
    done = []
    for step in _steps(chosen, operators, dry_run=dry_run):
        done.append(step)
        click.echo(f"{step['what']}: {step['state']}", err=as_json)
    places = _places(chosen)
    if as_json:
        click.echo(json.dumps({"target": chosen.target, "dry_run": dry_run, "steps": done, **places}))
        return
    click.echo(f"state: {places['state_url']}\nsecrets: {places['secrets_provider']}")
    if not dry_run:
        first = "dr local up" if chosen.target == LOCAL else f'eval "$(dr env --target {chosen.target})"'
        click.echo(f"next: {first}, then pulumi up -s vault-{chosen.target}")


def _steps(chosen: Chosen, operators: tuple[str, ...], *, dry_run: bool) -> Iterator[Done]:
    """Carry out and yield each step."""
    from dr.local.environment import environment  # noqa: PLC0415 - `dr --help` must load none of it
    from dr.local.foundation import lay, make_stacks  # noqa: PLC0415
    from dr.local.tools import checkout  # noqa: PLC0415
    from dr.target.backend import backend_of  # noqa: PLC0415
    from dr.target.folders import Folders  # noqa: PLC0415

    folders, backend = Folders.from_environment(), backend_of(chosen.declaration.site, chosen.subscription)
    variables = environment(chosen.target, folders, backend=backend)
    os.environ.update(variables)
    if chosen.target == LOCAL:
        yield from (_done(*step) for step in lay(folders, dry_run=dry_run))
    else:
        from dr.target.azure import connect  # noqa: PLC0415 - loads the SDK

        yield from in_azure(connect(), chosen, operators, dry_run=dry_run)
    stacks = make_stacks(
        chosen.declaration,
        chosen.target,
        project=checkout(),
        environment=variables,
        folders=folders,
        dry_run=dry_run,
    )
    yield from (_done(f"stack {stack}", stack, state) for stack, state in stacks)


def in_azure(azure: Azure, chosen: Chosen, operators: tuple[str, ...], *, dry_run: bool) -> Iterator[Done]:
    """Carry out and yield the steps of target azure."""
    from dr.target.bootstrap import Operator, carry_out, operator_of, steps, tenant_of  # noqa: PLC0415 - as above

    for operator in operators:
        if not re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", operator, re.IGNORECASE):
            raise Refused(
                f'--operator "{operator}" is no object id',
                code="operator-invalid",
                remedy="`az ad user show --id NAME --query id` tells a person's",
            )
    resources = azure.resources(chosen.subscription)
    tenant = tenant_of(resources, chosen.subscription)
    who = (operator_of(azure.claims()), *map(Operator, operators))
    for step in steps(chosen.declaration.site, chosen.subscription, tenant, who):
        yield _done(step.name, step.id, carry_out(step, resources, dry_run=dry_run))


def _done(what: str, where: str, state: str) -> Done:
    return {"what": what, "id": where, "state": state}


def _places(chosen: Chosen) -> dict[str, str]:
    from dr.local.stacks import PASSPHRASE  # noqa: PLC0415 - as above
    from dr.target.backend import backend_of  # noqa: PLC0415
    from dr.target.folders import Folders  # noqa: PLC0415

    if chosen.target == LOCAL:
        return {"state_url": f"file://{Folders.from_environment().state}", "secrets_provider": PASSPHRASE}
    backend = backend_of(chosen.declaration.site, chosen.subscription)
    return {"state_url": backend.state_url, "secrets_provider": backend.secrets_provider}
