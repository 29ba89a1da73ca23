"""A network of our own for the run: loopback alone, so that its counters count what is measured and nothing else."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

_CLONE_NEWNET = 0x40000000  # linux/sched.h
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1  # linux/sockios.h, linux/if.h


def leave_the_machines_network() -> None:
    """Move this process, and all that it starts, into a network with nothing but loopback. Before any thread starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "a network of our own cannot be made (unshare)")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        flags = _flags(any_socket, _SIOCGIFFLAGS, 0)
        _flags(any_socket, _SIOCSIFFLAGS, flags | _IFF_UP)


def wire_bytes() -> int:
    """Return the bytes that went over loopback so far, headers and acknowledgements included."""
    for line in Path("/proc/self/net/dev").read_text().splitlines():
        name, _, counters = line.partition(":")
        if name.strip() == "lo":
            return int(counters.split()[8])
    raise OSError("there is no loopback")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for_port(port: int, seconds: float = 20.0) -> None:
    """Wait until somebody listens. Raises `TimeoutError`."""
    ends = os.times().elapsed + seconds
    while os.times().elapsed < ends:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            continue
        return
    raise TimeoutError(f"nobody listens on port {port} after {seconds:.0f} s")


def _flags(any_socket: socket.socket, request: int, flags: int) -> int:
    answer = fcntl.ioctl(any_socket, request, struct.pack("16sH14x", b"lo", flags))
    found: int = struct.unpack("16sH14x", answer)[1]
    return found
