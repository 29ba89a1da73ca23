"""An action on a recovered server: a program there, as root, by the protected server's own login.

Until the command is on its way a failure is one. If the connection ends before the command does, nobody can tell.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import replace

from dr.errors import LifeboatError
from dr.failover.steps.output import Output, last_line
from dr.failover.steps.performing import Act, Outcome
from dr.failover.steps.records import State
from dr.model import Ssh
from dr.push.connection import connect_to
from dr.push.credentials import Secrets

GRACE_SECONDS = 5
LATE = 124  # exit code of `timeout`; 137 when it had to kill
KILLED = 137


def command(
    server: str,
    ssh: Ssh,
    words: Sequence[str],
    context: Callable[[int], bytes],
    reach: Callable[[], tuple[str, int]],
    secrets: Secrets,
    timeout_seconds: int,
) -> Act:
    """Return the action; `reach` tells where the server's SSH port is from here."""
    # The server ends it at its time-out, so that what did not end in time is known to have ended. `umask`: the
    # connection's own is meant for what an installation writes.
    script = f"umask 022; exec timeout -k {GRACE_SECONDS} {timeout_seconds} {shlex.join(words)} 2>&1"

    def act(number: int) -> Outcome:
        begun = False
        output = Output()
        try:
            host, port = reach()
            there = replace(ssh, address=host, port=port)
            with connect_to(server, there, secrets=secrets) as connection:
                if connection.privilege_complaint is not None:
                    return Outcome(
                        State.FAILED, f"{connection.user} cannot become root: {connection.privilege_complaint}"
                    )
                begun = True
                told, seconds = context(number), timeout_seconds + 3.0 * GRACE_SECONDS
                code = connection.stream(script, output.feed, stdin=told, seconds=seconds)
        except LifeboatError as error:
            text, left_out = output.kept()
            if begun:
                return Outcome(
                    State.UNKNOWN, f"it was begun and nobody saw its end: {error.message}", None, text, left_out
                )
            return Outcome(State.FAILED, error.message)
        return _ended(code, output, timeout_seconds)

    return act


def _ended(code: int, output: Output, timeout_seconds: int) -> Outcome:
    text, left_out = output.kept()
    if code in (LATE, KILLED):
        said = f"it took longer than {timeout_seconds} s and was ended"
        return Outcome(State.FAILED, said, code, text, left_out)
    line = last_line(text)
    said = f"exit code {code}: {line}" if line else f"exit code {code}"
    return Outcome(State.DONE if code == 0 else State.FAILED, said, code, text, left_out)
