"""The shape of a RecoveryPlan: groups, health checks, actions and what the plan is held to."""

from __future__ import annotations

from dr.model import RunKind
from dr.schema.definition.words import (
    SERVER_NAME_LENGTH,
    Schema,
    array,
    choice,
    document,
    duration,
    exactly_one,
    mapping,
    name,
    number,
    port,
    secret,
    text,
)

PLAN_NAME_LENGTH = 32
MAX_GROUPS = 7
MAX_SERVERS = 100  # in all groups together; a rule across the document, in `dr.schema.plans`

_OPEN_PORT = "the subnet's `inboundPorts` must have it"

_CHECK = mapping(
    "One health check: exactly one of `http`, `tcp`, `ssh` and `sql`.",
    {
        "server": text("Name of a server of the same group."),
        "http": mapping(
            "Passes when a GET answers with the status, and with the text when `contains` is given.",
            {
                "port": port(f"TCP port; {_OPEN_PORT}."),
                "path": text(
                    "Path of the request.", "^/[!-~]*$", "a path beginning with / and without spaces", default="/"
                ),
                "status": number("Status that passes.", 100, 599, default=200),
                "contains": text("Text that the answer's body must contain."),
            },
            ["port"],
        ),
        "tcp": mapping("Passes when a connection is accepted.", {"port": port(f"TCP port; {_OPEN_PORT}.")}, ["port"]),
        "ssh": mapping(
            "Passes when a command on the recovered server, by its own SSH login, ends with exit code 0.",
            {
                "command": text("The command, as `sh` of the server's SSH user runs it, for at most a minute."),
                "port": port(f"SSH port; {_OPEN_PORT}.", 22),
            },
            ["command"],
        ),
        "sql": mapping(
            "Passes when a database would serve: it asks for a password or refuses a stranger, and isn't starting.",
            {
                "engine": choice("The database.", "postgresql", "mariadb"),
                "port": port(f"TCP port; the engine's own, 5432 or 3306, when left out; {_OPEN_PORT}."),
            },
            ["engine"],
        ),
        "timeout": duration("How long the check may take to pass, from the start of its VM.", "5s", "2h", "5m"),
    },
    ["server"],
    oneOf=exactly_one("http", "tcp", "ssh", "sql"),
)


def _words(description: str) -> Schema:
    return array(description, text("A word of the command line."), most=100)


_ACTION = mapping(
    "One action: exactly one of `script`, `command`, `webhook` and `manual`.",
    {
        "name": name("Name of the action, once in the plan; its result is kept under it.", SERVER_NAME_LENGTH),
        "runs": array(
            "The runs that it takes part in. There is no default: what a drill may do must be said.",
            choice("A run.", *(kind.value for kind in RunKind)),
            uniqueItems=True,
        ),
        "script": _words("Program and arguments, run on the machine that runs the plan, in the declaration's folder."),
        "command": mapping(
            "A command on a recovered server, as root, by the server's own SSH login.",
            {
                "server": text("Name of a server of the plan that runs by then."),
                "run": _words("Program and arguments; no shell."),
                "port": port(f"SSH port; {_OPEN_PORT}.", 22),
            },
            ["server", "run"],
        ),
        "webhook": mapping(
            "A POST of the run's context as JSON; passes with an answer of 200 to 299.",
            {
                "url": text(
                    "Address, where it is no secret.",
                    '^https?://[^\\s/?#@"<>]+[^\\s?#@"<>]*$',
                    "an https:// or http:// address without user, query and fragment; one that is a secret is named by"
                    " its place, with urlFrom",
                ),
                "urlFrom": secret("The address, where whoever knows it may call it."),
            },
            [],
            oneOf=exactly_one("url", "urlFrom"),
        ),
        "manual": mapping(
            "A step that a person does; the run pauses until `dr approve`.",
            {"instructions": text("What the person has to do.")},
            ["instructions"],
        ),
        "timeout": duration("How long it may take; for a manual step, how long it waits.", "1s", "7d", "5m"),
        "retries": number("How often it is tried again after it failed.", 0, 10, default=0),
    },
    ["name", "runs"],
    oneOf=exactly_one("script", "command", "webhook", "manual"),
)


def _actions(description: str) -> Schema:
    return array(description, _ACTION, least=0, most=20, default=[])


_GROUP = mapping(
    "One group.",
    {
        "servers": array("Names of servers.", text("Name of a server.")),
        "before": _actions("Actions before the group's servers start, in order."),
        "checks": array("Health checks of the group.", _CHECK, least=0, default=[]),
        "after": _actions("Actions when all checks of the group have passed, in order."),
    },
    ["servers"],
)

PLAN = document(
    "RecoveryPlan",
    "Which servers are recovered together, in which order, and what proves that they serve.",
    name("Name of the plan, as in `dr failover NAME`.", PLAN_NAME_LENGTH),
    {
        "groups": array(
            "Groups in order: servers of a group start in parallel, the next group starts when all checks of this one"
            f" pass. At most {MAX_SERVERS} servers in all.",
            _GROUP,
            most=MAX_GROUPS,
        ),
        "objectives": mapping(
            "What the plan is held to.",
            {
                "rpo": duration("At most this much work is lost.", "1m", "15d"),
                "rto": duration("At most this long until all checks pass.", "1m", "15d"),
                "drillEvery": duration("The newest drill that passed may not be older.", "1d", "366d"),
            },
            [],
        ),
    },
    ["groups"],
)
