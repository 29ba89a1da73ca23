"""`dr failover PLAN`: boot a plan's servers in Azure from their recovery points."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dr.cli.target import LOCAL, choose, require_login, target_option
from dr.errors import PrerequisiteMissing

if TYPE_CHECKING:
    from dr.failover.engine import Event
    from dr.failover.result import Result
    from dr.failover.run import Surroundings

CHECKOUT = Path(__file__).resolve().parents[2]

Say = Callable[[str], None]
Report = Callable[["Event"], None]


@click.command()
@click.argument("plan")
@click.option(
    "--point",
    "selector",
    metavar="SELECTOR",
    help="latest, latest-processed, latest-app-consistent, latest-group, a time or an id.",
)
@click.option("--run", "run", metavar="ID", help="Id of the run; default: the one the plan's stack holds, or the time.")
@target_option("Where to boot them.")
@click.option("--yes", is_flag=True, help="Replace running servers when the point is another one than before.")
@click.option("--source-may-be-alive", is_flag=True, help="Fail over although the source still answers.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end; progress goes to stderr.")
def failover(
    plan: str,
    selector: str | None,
    run: str | None,
    target: str | None,
    yes: bool,
    source_may_be_alive: bool,
    as_json: bool,
) -> None:
    """Boot the servers of PLAN in Azure, each from a recovery point, and wait for their health checks.

    A second call continues a run that was interrupted, and changes nothing when it is done. Ctrl-C once lets the
    running step finish and saves. Exit code 7: the run is paused, a manual step waits for `dr approve`. Exit code 10:
    it did not reach its goal; how each server and step stands is named.

    \b
    Examples:
      dr failover shop
      dr failover shop --point 2026-05-04T11:30:00Z
      dr failover shop --point latest-app-consistent
      dr failover shop --json | jq .rto_seconds
    """
    from dr.failover.run import Request, fail_over  # noqa: PLC0415 - loads the Azure SDK
    from dr.vault.points import refuse_selector  # noqa: PLC0415 - as above

    if selector is not None:
        refuse_selector(selector, datetime.now(UTC))
    request = Request(plan, run, selector, source_may_be_alive, replace=yes)
    with progress() as (say, report):
        result = fail_over(request, surroundings(plan, target, say, report))
    if as_json:
        click.echo(json.dumps(result.as_dict()))
    else:
        show(result)


def surroundings(plan: str, target: str | None, say: Say, report: Report) -> Surroundings:
    """Return where a run of `plan` happens. Raises what the target lacks."""
    from dr import compile as compiler  # noqa: PLC0415
    from dr.compile.recovery import LATEST  # noqa: PLC0415
    from dr.failover.engine import Engine  # noqa: PLC0415
    from dr.failover.run import Surroundings  # noqa: PLC0415
    from dr.local.environment import environment  # noqa: PLC0415
    from dr.local.stacks import binding_of, prepare_stack  # noqa: PLC0415
    from dr.target.backend import backend_of  # noqa: PLC0415
    from dr.target.folders import Folders  # noqa: PLC0415
    from dr.target.inventory import exists, resource_ids  # noqa: PLC0415
    from dr.target.reach import reach  # noqa: PLC0415
    from dr.target.stores import open_store  # noqa: PLC0415

    folders, chosen = Folders.from_environment(), choose(target)
    declaration, subscription = chosen.declaration, chosen.subscription
    compiler.failover(declaration, plan, "r1", LATEST, subscription)  # a wrong name is told before a missing target
    variables = environment(chosen.target, folders, backend=backend_of(declaration.site, subscription))
    os.environ.update(variables)
    require_login(chosen.target)
    if chosen.target == LOCAL and not folders.state.exists():
        raise PrerequisiteMissing(
            f"target local is not there: no {folders.state}",
            code="local-target-missing",
            remedy="check LIFEBOAT_LOCAL; `dr local up` makes a new, empty one",
        )
    engine = Engine(CHECKOUT, f"failover-{plan}-{chosen.target}", os.environ)

    def prepare() -> None:
        binding = binding_of(chosen.target, declaration)
        prepare_stack(engine.stack, project=CHECKOUT, environment=variables, binding=binding, folders=folders)

    return Surroundings(
        declaration=declaration,
        subscription=subscription,
        engine=engine,
        prepare=prepare,
        store=lambda account: open_store(subscription, account),
        reach=reach,
        present=resource_ids,
        exists=lambda name: exists(subscription, name),
        now=lambda: datetime.now(UTC),
        say=say,
        report=report,
    )


@contextmanager
def progress() -> Iterator[tuple[Say, Report]]:
    """Yield where lines and events go: a live display on a terminal, else plain lines; always on stderr."""
    from dr.failover.progress import Progress  # noqa: PLC0415

    progress = Progress()
    begun = datetime.now(UTC)

    def stamped(line: str) -> str:
        return f"{(datetime.now(UTC) - begun).total_seconds():6.1f} s  {line}"

    if not sys.stderr.isatty():

        def plain(event: Event) -> None:
            for line in progress.feed(event):
                click.echo(stamped(line), err=True)

        yield lambda line: click.echo(stamped(line), err=True), plain
        return
    from rich.console import Console, Group  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415
    from rich.spinner import Spinner  # noqa: PLC0415

    console = Console(stderr=True)
    with Live(console=console, transient=True) as live:

        def shown(event: Event) -> None:
            for line in progress.feed(event):
                console.print(stamped(line), highlight=False, markup=False)
            live.update(Group(*(Spinner("dots", text=text) for text in progress.working.values())))

        yield lambda line: console.print(stamped(line), highlight=False, markup=False), shown


def show(result: Result) -> None:
    """Print a result for people."""
    for server in result.servers:
        click.echo(f"{server.server}: {server.address} (VM {server.vm}), point {server.point}")
        for port, endpoint in server.endpoints.items():
            click.echo(f"    port {port}: {endpoint}")
    for step in result.steps:
        click.echo(f"step {step.step} ({step.kind}, {step.when} group {step.group}): {step.said}")
    rto = result.rto_seconds
    state = "healthy" if result.healthy else "booted, health unknown: the plan declares no health check"
    measured = "" if rto is None else f", RTO {rto:.0f} s"
    click.echo(f"plan {result.plan}, run {result.run}: {state}; RPO {result.rpo_seconds:.0f} s{measured}")
    if result.source_may_be_alive:
        click.echo("source may be alive: its shutdown was not confirmed; keep it switched off", err=True)
