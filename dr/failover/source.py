"""Does the source still live? A failover beside a living source means two copies of one server.

What answers here is proof of life; silence proves nothing, so a failover without a confirmed shutdown always says
`source may be alive`. Only a server that introduces itself counts: an open port alone may be a gateway's.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from dr.model import Declaration

ANSWER_SECONDS = 2.0
_SSH = b"SSH-"  # RFC 4253, 4.2: the server speaks first

Answers = Callable[[str, int], bool]


def answers(host: str, port: int) -> bool:
    """Say whether an SSH server introduces itself within `ANSWER_SECONDS`."""
    try:
        with socket.create_connection((host, port), timeout=ANSWER_SECONDS) as connection:
            return connection.recv(len(_SSH)) == _SSH
    except OSError:
        return False


def answering(declaration: Declaration, servers: Sequence[str], ask: Answers = answers) -> tuple[str, ...]:
    """Return which of the servers still answer at their declared addresses."""
    ends = {name: declaration.servers[name].ssh for name in servers}
    return tuple(f"{name} ({ssh.address}:{ssh.port})" for name, ssh in ends.items() if ask(ssh.address, ssh.port))
