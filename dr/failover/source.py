"""Does the source still live? A failover beside a living source means two copies of one server.

What answers here is proof of life; silence proves nothing, so a failover without a confirmed shutdown always says
`source may be alive`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from dr.model import Declaration

CONNECT_SECONDS = 2.0

Connects = Callable[[str, int], bool]


def connects(host: str, port: int) -> bool:
    """Say whether a TCP connection opens within `CONNECT_SECONDS`."""
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False


def answering(declaration: Declaration, servers: Sequence[str], connect: Connects = connects) -> tuple[str, ...]:
    """Return which of the servers, and the site's configuration server, still answer at their declared addresses."""
    found = []
    for name in servers:
        ssh = declaration.servers[name].ssh
        if connect(ssh.address, ssh.port):
            found.append(f"{name} ({ssh.address}:{ssh.port})")
    configuration = declaration.site.configuration_server
    if connect(configuration.address, configuration.port):
        found.append(f"the configuration server ({configuration.address}:{configuration.port})")
    return tuple(found)
