"""One question to a recovered server by SSH: does this command end well there?

The server is the one that was protected, so its own login and pinned host key open it; only the address is another.
"""

from __future__ import annotations

import shlex
from dataclasses import replace

from dr.errors import Refused, Unreachable
from dr.model import Ssh
from dr.plain import plain
from dr.provider.probe import Answer
from dr.push.connection import connect_to
from dr.push.credentials import Secrets

LONGEST_SECONDS = 60  # of one try
TEXT_LETTERS = 200


def ask_ssh(server: str, ssh: Ssh, command: str, secrets: Secrets, host: str, port: int, seconds: float) -> Answer:
    """Run the command once, for at most `seconds`. Raises `PrerequisiteMissing` when a key or password is not here."""
    least = max(1, round(min(seconds, LONGEST_SECONDS)))
    there = replace(ssh, address=host, port=port)
    try:
        with connect_to(server, there, secrets=secrets) as connection:
            # What hangs ends on the server too, else every try would leave one more there.
            script = f"exec timeout -k 2 {least} /bin/sh -c {shlex.quote(command)}"
            answer = connection.run(script, seconds=least + 5.0, privileged=False)
    except (Unreachable, Refused) as error:
        return Answer(False, error.message)  # a server that is starting refuses too
    if answer.code == 0:
        return Answer(True, "exit code 0")
    said = "it took too long" if answer.code == 124 else answer.complaint
    return Answer(False, plain(f"exit code {answer.code}: {said}"[:TEXT_LETTERS]))
