"""QEMU's monitor (QMP) of a test machine: one connection per conversation, nothing held open in between."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qemu.qmp import QMPClient

Command = tuple[str, Mapping[str, object]]


def converse(socket: Path, commands: Sequence[Command], *, timeout_seconds: float = 60) -> list[Any]:
    """Send commands to the monitor at `socket`, one after the other, and return their answers."""
    # A unix socket's address has 107 bytes; through the folder's descriptor a path of any length fits.
    folder = os.open(socket.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        address = f"/proc/self/fd/{folder}/{socket.name}"
        return asyncio.run(asyncio.wait_for(_converse(address, commands), timeout_seconds))
    finally:
        os.close(folder)


async def _converse(address: str, commands: Sequence[Command]) -> list[Any]:
    client = QMPClient("machine")
    await client.connect(address)
    try:
        return [await client.execute(name, dict(arguments)) for name, arguments in commands]
    finally:
        await client.disconnect()
