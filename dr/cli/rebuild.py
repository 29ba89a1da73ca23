"""`dr rebuild`: the configuration server and the stacks' state of a lost site, from YAML, vault and one secret."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dr.cli.failover import progress
from dr.cli.target import LOCAL, choose, require_login, target_option
from dr.errors import Degraded, PrerequisiteMissing
from dr.plain import plain

if TYPE_CHECKING:
    from dr.cli.failover import Report, Say
    from dr.rebuild.result import Result
    from dr.rebuild.work import Surroundings

CHECKOUT = Path(__file__).resolve().parents[2]


@click.command()
@click.option("--site-is-gone", is_flag=True, help="The old site runs nowhere, though its newest point is young.")
@click.option("--revocations-unknown", is_flag=True, help="Go on although nobody knows what was revoked.")
@target_option("Whose site.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (docs/formats/rebuild.schema.json).")
def rebuild(*, site_is_gone: bool, revocations_unknown: bool, target: str | None, as_json: bool) -> None:
    """Make a lost site's configuration server and the stacks' state anew.

    For the day after: the machine with the configuration server burnt, with its keys, its checkout, perhaps the
    stacks' state. Run it on the machine that takes its place, in a fresh clone, with the break-glass secret. Needs the
    YAML, the vault and its key store; servers are asked over SSH and not changed. Their agents go on with the
    certificates they have; what was stored is not sent again.

    A site that lives is refused. A second call goes on where the first stopped, and changes nothing when all is there.
    What could not be known again is named, and exit code 7 says that something wants attention. Recovery needs none of
    this: `dr points` and `dr failover` work from the vault alone. docs/runbooks/rebuild.md goes step by step.

    \b
    Examples:
      PULUMI_CONFIG_PASSPHRASE_FILE=/media/safe/break-glass dr rebuild
      dr rebuild --json | jq '.states[] | select(.severity == "degraded")'
    """
    from dr.rebuild.work import Request  # noqa: PLC0415 - `dr --help` needs none of this
    from dr.rebuild.work import rebuild as work  # noqa: PLC0415

    with progress() as (say, report):
        result = work(Request(site_is_gone, revocations_unknown), _surroundings(target, say, report))
    failure = None
    if result.degraded:
        codes = ", ".join(f"{state.about} {state.code}" for state in result.degraded)
        failure = Degraded(f"rebuilt, and degraded: {codes}", remedy=result.degraded[0].remedy)
    if as_json:
        click.echo(json.dumps(result.as_dict() | (failure.as_dict() if failure else {}), ensure_ascii=False))
    else:
        _show(result)
    if failure:
        sys.exit(failure.exit_code)


def _surroundings(target: str | None, say: Say, report: Report) -> Surroundings:
    from dr.compile import names  # noqa: PLC0415
    from dr.config_server.client import SiteClient  # noqa: PLC0415
    from dr.failover.engine import Engine  # noqa: PLC0415
    from dr.local import services  # noqa: PLC0415
    from dr.local.environment import environment  # noqa: PLC0415
    from dr.local.stacks import binding_of, prepare_stack, stack_names  # noqa: PLC0415
    from dr.local.standin.catalogue import KINDS  # noqa: PLC0415
    from dr.provider.certificate_authority import open_authority  # noqa: PLC0415
    from dr.provider.world import REBUILDING  # noqa: PLC0415
    from dr.rebuild.work import Surroundings  # noqa: PLC0415
    from dr.target.backend import backend_of  # noqa: PLC0415
    from dr.target.folders import Folders  # noqa: PLC0415
    from dr.target.secrets import key_store  # noqa: PLC0415
    from dr.target.stores import open_store  # noqa: PLC0415

    folders, chosen = Folders.from_environment(), choose(target)
    declaration, subscription, local = chosen.declaration, chosen.subscription, chosen.target == LOCAL
    variables = environment(chosen.target, folders, backend=backend_of(declaration.site, subscription))
    os.environ.update(variables)
    require_login(chosen.target)
    if local and not folders.accounts.exists():
        raise PrerequisiteMissing(
            f"target local has no vault: there is no {folders.accounts}",
            code="local-target-missing",
            remedy="check LIFEBOAT_LOCAL; `dr local up` makes a new, empty one",
        )
    keys = key_store(subscription, folders)  # a missing passphrase is told before anything starts
    site = declaration.site.name
    authority = open_authority(keys, names.certificate_authority(site)) if local else None
    if local:
        services.up_cloud(folders, declaration, say)

    def prepare() -> None:
        binding = binding_of(chosen.target, declaration)
        for stack in stack_names(declaration, chosen.target):
            prepare_stack(stack, project=CHECKOUT, environment=variables, binding=binding, folders=folders)

    def serve() -> bool:
        if local:
            services.up_site(folders, say)
        return local or _serves(folders.site)

    client = SiteClient(folders.site)
    return Surroundings(
        declaration=declaration,
        target=chosen.target,
        subscription=subscription,
        site=folders.site,
        store=lambda: open_store(subscription, names.storage_account(site, subscription), folders),
        authority=lambda: authority or open_authority(keys, names.certificate_authority(site)),
        prepare=prepare,
        serve=serve,
        stack=lambda name: Engine(CHECKOUT, name, {**os.environ, REBUILDING: site}),
        templates={kind: each.path for kind, each in KINDS.items()},
        status=client.status,
        now=lambda: datetime.now(UTC),
        say=say,
        report=report,
    )


def _serves(site: Path) -> bool:
    return (site / "serve.json").exists()


def _show(result: Result) -> None:
    for stack in result.stacks:
        counts = [(len(stack.imported), "imported"), (len(stack.made), "taken over or made"), (len(stack.left), "left")]
        said = ", ".join(f"{count} {word}" for count, word in counts if count)
        click.echo(plain(f"stack {stack.stack}: {said or 'as it was'}"))
    for name, facts in result.servers.items():
        heard = {True: "its agent is heard", False: "its agent is not heard", None: "its agent was not asked"}
        newest = f"{facts['points']} points, newest {facts['newest']}" if facts["points"] else "no point"
        click.echo(plain(f"{name}: {newest}; {heard[facts['heard']]}"))
    click.echo(f"revocations known again: {result.revocations}")
    for state in result.states:
        click.echo(plain(f"{state.severity}: {state.about}: {state.message}\n    remedy: {state.remedy}"), err=True)
    if not result.changed:
        click.echo("nothing was changed: all of it was there")
