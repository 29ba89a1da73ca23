"""`dr approve PLAN STEP`: approve a manual step, or say what became of a step whose end nobody saw."""

from __future__ import annotations

import getpass
import json
import socket

import click

from dr.cli.failover import progress, show, surroundings
from dr.cli.target import target_option


@click.command()
@click.argument("plan")
@click.argument("step")
@click.option("--done", "word", flag_value="done", help="The step is unknown: it did what it should, go on.")
@click.option("--again", "word", flag_value="again", help="The step is unknown: have it done once more.")
@click.option("--as", "who", metavar="NAME", help="Who says so; default: this user at this machine.")
@click.option("--record-only", is_flag=True, help="Record it and do not go on with the run.")
@target_option("Where the run is.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object at the end; progress goes to stderr.")
def approve(
    plan: str, step: str, word: str | None, who: str | None, record_only: bool, target: str | None, as_json: bool
) -> None:
    """Approve STEP of the run of PLAN that waits for it, and go on with the run.

    Without --done and --again, STEP is a manual step that a person has done. With one of them it is an action that was
    interrupted: nobody saw its end, so it is not repeated until somebody has looked. Who said what, and when, is kept
    with the run and never changed. A word that comes after the step's time-out does not count.

    \b
    Examples:
      dr approve shop ask-the-owner
      dr approve shop ask-the-owner --as olga --record-only
      dr approve shop switch-dns --done
    """
    from dr.failover.approval import say  # noqa: PLC0415 - loads the Azure SDK
    from dr.failover.run import Request, fail_over  # noqa: PLC0415 - as above
    from dr.failover.steps.records import Word  # noqa: PLC0415 - as above

    name = who or f"{getpass.getuser()}@{socket.gethostname()}"
    with progress() as (line, report):
        around = surroundings(plan, target, line, report)
        said = say(around, plan, step, Word(word) if word else None, name)
        line(f"step {step}, attempt {said.attempt}: {said.word} by {said.who}")
        if record_only:
            result = None
        else:
            result = fail_over(Request(plan, said.run, None, source_may_be_alive=False, replace=False), around)
    if result is None:
        click.echo(json.dumps(said.as_dict()) if as_json else f"recorded; `dr failover {plan}` goes on")
    elif as_json:
        click.echo(json.dumps(result.as_dict()))
    else:
        show(result)
