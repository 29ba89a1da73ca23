"""QEMU's monitor of one machine, used from ordinary (blocking) code.

The socket's path may exceed the 107 bytes a unix address holds, so it is reached through a descriptor of its folder.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qemu.qmp import QMPClient, QMPError

from dr.errors import LifeboatError

ANSWER_SECONDS = 10.0


class MonitorFailed(LifeboatError):
    """The monitor does not answer, or refused a command."""

    code = "monitor-failed"


class Monitor:
    """A connection to the monitor; use it as a context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runner = asyncio.Runner()
        self._client = QMPClient("lifeboat")

    def __enter__(self) -> Self:
        descriptor = os.open(self._folder, os.O_PATH | os.O_DIRECTORY)
        try:
            self._run(self._client.connect(f"/proc/self/fd/{descriptor}/qmp"))
        except MonitorFailed:
            self._runner.close()
            raise
        finally:
            os.close(descriptor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._run(self._client.disconnect())
        except MonitorFailed:
            # Closing a connection that the other side closed already (after `quit`).
            pass
        finally:
            self._runner.close()

    def execute(self, command: str, **arguments: object) -> Any:
        """Run a QMP command and return its answer. `MonitorFailed`."""
        return self._run(self._client.execute(command, arguments or None))

    def command_line(self, line: str) -> None:
        """Run a command of the human monitor. `MonitorFailed` when it says anything but success."""
        said = str(self.execute("human-monitor-command", **{"command-line": line})).strip()
        if said and "removed" not in said:
            raise MonitorFailed(f"QEMU answers to `{line}`: {said}")

    def _run(self, call: Any) -> Any:
        try:
            return self._runner.run(asyncio.wait_for(call, ANSWER_SECONDS))
        except (QMPError, OSError, TimeoutError, EOFError) as error:
            raise MonitorFailed(f"the monitor in {self._folder} failed: {error}") from error
