"""The group `dr`: finds commands lazily and turns our errors into one line, a remedy and an exit code."""

from __future__ import annotations

import difflib
import importlib
import io
import json
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from dr import __version__
from dr.errors import Interrupted, LifeboatError, PrerequisiteMissing
from dr.plain import plain

# command -> (module, one line for `dr --help`); the order is the order of a first day with dr.
COMMANDS = {
    "validate": ("dr.cli.validate", "Check a declaration and report all errors at once."),
    "bootstrap": ("dr.cli.bootstrap", "Make the place of the stacks' state and its key, once."),
    "env": ("dr.cli.env", "Print the environment of a target as shell exports."),
    "local": ("dr.cli.local", "Start, show or stop the local target's processes."),
    "serve": ("dr.cli.serve", "Run the site's configuration server and process server."),
    "process-server": ("dr.cli.process_server", "Run a process server alone, to scale a site out."),
    "status": ("dr.cli.status", "Show health, RPO, backlog and mode of the servers."),
    "events": ("dr.cli.events", "Show which named states began and ended, and when."),
    "points": ("dr.cli.points", "List a server's recovery points."),
    "files": ("dr.cli.files", "List and fetch single files of a recovery point."),
    "retention": ("dr.cli.retention", "Remove the recovery points that their policy does not keep."),
    "purge": ("dr.cli.purge", "Remove a server's recovery points and replica for good."),
    "vault": ("dr.cli.vault", "End a whole vault, for good."),
    "failover": ("dr.cli.failover", "Boot a plan's servers in Azure from their recovery points."),
    "approve": ("dr.cli.approve", "Approve a manual step, or say what became of an interrupted one."),
    "rebuild": ("dr.cli.rebuild", "Make a lost site's configuration server and the stacks' state anew."),
    "compare": ("dr.cli.compare", "Compare a server's disks with its replica now: a verification pass."),
    "resync": ("dr.cli.resync", "Have a server's disks compared with its replica from end to end."),
    "secret": ("dr.cli.secret", "Put passwords that the declaration refers to into the key store."),
    "agent": ("dr.cli.agent", "Build the Mobility agent's package, make a token; see what was done to a server."),
    "revoke": ("dr.cli.revoke", "Lock out a server, or whoever holds one certificate."),
    "journal": ("dr.cli.journal", "Show the records of an .hrl file."),
}

_HELP = "see `--help` of the command"


class LazyGroup(click.Group):
    """Import a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f' (did you mean "{near[0]}"?)' if near else ""
            raise click.UsageError(f'no such command "{args[0]}"{hint}', ctx)
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="dr")
def dr() -> None:
    """Disaster recovery of physical servers to Azure, as code.

    Write the declaration under plans/, check it with `dr validate`, choose a target with `eval "$(dr env)"`, and
    make it true with `pulumi up`. `dr status` tells how things are, `dr failover PLAN` is for the day itself.

    Exit codes: 0 well, 2 wrong usage, 3 declaration invalid, 4 something is missing on this machine, 5 a component
    did not answer, 6 refused, 7 degraded (named in the output), 8 not found, 9 corrupt data, 10 a run failed,
    130 interrupted.
    """


def fail(error: LifeboatError, *, as_json: bool) -> NoReturn:
    """Print an error the way its reader wants it and leave with its exit code."""
    if as_json:
        click.echo(json.dumps(error.as_dict()))
    else:
        click.echo(plain(f"dr: {error.message}"), err=True)
        if error.remedy:
            click.echo(plain(f"    remedy: {error.remedy}"), err=True)
    sys.exit(error.exit_code)


def of_the_system(error: OSError) -> LifeboatError:
    """Return what the system refused (a full disk, no such folder, no right) as an error of ours."""
    where = f"{error.filename}: " if error.filename else ""
    remedy = "see that the folder is there, writable and has space; then run the same command again"
    return PrerequisiteMissing(f"{where}{error.strerror or error}", code="system-refused", remedy=remedy)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line with `argv` (default: the process's)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a server's names need not be valid in any encoding
    # What azure-identity logs of its many ways to log in, our error says in one line, with a remedy.
    logging.getLogger("azure").setLevel(logging.CRITICAL)
    try:
        dr.main(args=arguments, prog_name="dr", standalone_mode=False)
    except LifeboatError as error:
        fail(error, as_json=as_json)
    except OSError as error:
        fail(of_the_system(error), as_json=as_json)
    except click.ClickException as error:
        if as_json:
            click.echo(json.dumps({"error": {"code": "usage", "message": error.format_message(), "remedy": _HELP}}))
        else:
            error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        fail(Interrupted("interrupted; nothing was left half done"), as_json=as_json)
