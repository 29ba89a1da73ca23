"""Three protected servers in one replication group, and a counter that they pass to each other.

Each server has a file system of its own and a writer: it takes a number, appends it to its log, flushes it to the disk,
and passes the next number on. So whoever has a number has it because another one had the number before: in one instant
the three logs together hold 0, 1, 2 … without a gap. A gap is an effect without its cause.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dr.config_server.settings import Membership
from dr.vault.points import read_points
from dr.vault.shared import SharedPoint, read_shared
from tests.agent.protected import MIB, LoopDisk, Protected, wait_for
from tests.agent.slow_way import SlowWay
from tests.agent.whole_site import Site
from tests.config_server.rig import free_port

GROUP = "shop"
KINDS = {"db1": "xfs", "shop1": "ext4", "web1": "ext4"}  # the first by name coordinates
SIZES = {"xfs": 320 * MIB, "ext4": 64 * MIB}
SKEW_SECONDS = 0.3
# What each mutant of a round breaks (`tests/mutants`); the counter must tell.
ABOUT = {"released-early": "a member is let go as soon as it alone stands still"}

WRITER = """
import os, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for line in sys.stdin:
    os.write(log, line.encode())
    os.fsync(log)
    print(int(line) + 1, flush=True)
"""


class Grouped:
    """The site, its three servers and the ways to their ports; `skewed` is reached late."""

    def __init__(self, folder: Path, interval_seconds: int = 2, skewed: str = "web1") -> None:
        self.folder = folder
        self.ports = {name: free_port() for name in KINDS}
        self.way = SlowWay(self.ports[skewed], SKEW_SECONDS)
        reached = {**self.ports, skewed: self.way.port}
        self.memberships = {
            name: Membership(GROUP, f"127.0.0.1:{reached[name]}", port) for name, port in self.ports.items()
        }
        self.site = Site(folder / "site", interval_seconds, self.memberships)
        self.servers = {name: Protected(folder / name, self.site, name) for name in KINDS}
        self.mounts: dict[str, Path] = {}
        for name, server in self.servers.items():
            server.changes = {"policy": {"crash_consistent_seconds": interval_seconds}}
            self.mounts[name] = server.mount(server.disk("os", SIZES[KINDS[name]]), KINDS[name])

    def start(self) -> None:
        for server in self.servers.values():
            server.start()
        for server in self.servers.values():
            server.wait_mode("delta", 90)

    def close(self) -> None:
        self.way.close()
        for server in self.servers.values():
            server.close()
        self.site.close()

    @contextmanager
    def writers(self) -> Iterator[None]:
        """Let the counter go round while inside."""
        first_read, last_write = os.pipe()
        running, source = [], first_read
        for number, name in enumerate(KINDS):
            ends = number == len(KINDS) - 1
            process = subprocess.Popen(
                [sys.executable, "-c", WRITER, str(self.mounts[name] / "log")],
                stdin=source,
                stdout=last_write if ends else subprocess.PIPE,
                text=True,
            )
            running.append(process)
            source = last_write if ends else process.stdout.fileno()  # type: ignore[union-attr]
        os.write(last_write, b"0\n")
        try:
            yield
        finally:
            for process in running:
                process.kill()
            for process in running:
                process.wait(20)
                if process.stdout is not None:
                    process.stdout.close()
            os.close(first_read)
            os.close(last_write)

    def reached(self) -> int:
        """Return how far the counter came."""
        return sum(len(self._numbers(self.mounts[name])) for name in KINDS)

    def shared(self) -> list[SharedPoint]:
        """Return the shared points, newest first."""
        return read_shared(self.site.store, GROUP, KINDS)[1]

    def wait_shared(self, more_than: int = 0, seconds: float = 60.0) -> list[SharedPoint]:
        """Return the shared points when there are more of them."""
        try:
            return list(wait_for("shared points", lambda: self._more(more_than), seconds))
        except AssertionError as error:
            logs = "\n".join(f"{name}: {server.log.read_text()}" for name, server in self.servers.items())
            raise AssertionError(f"{error}; {self.group_status()}; {logs}") from None

    def _more(self, than: int) -> list[SharedPoint] | None:
        found = self.shared()
        return found if len(found) > than else None

    def group_status(self) -> dict[str, Any]:
        return dict(self.site.status()["groups"][GROUP])

    def group_states(self) -> list[str]:
        return [state["message"] for state in self.group_status()["states"]]

    def single_points(self, server: str) -> int:
        return len(read_points(self.site.store, server).good)

    def numbers(self, parts: Mapping[str, str]) -> list[int]:
        """Return what the three logs hold together; `parts` has the snapshot of each server's disk."""
        found: list[int] = []
        for name, snapshot in parts.items():
            kind, size = KINDS[name], SIZES[KINDS[name]]
            copy = LoopDisk(self.folder, f"copy-{name}", size, self.site.replica("os", size, snapshot, name))
            point = self.folder / f"at-{name}"
            point.mkdir(exist_ok=True)
            try:
                options = ["-o", "nouuid"] if kind == "xfs" else []  # the original is mounted
                subprocess.run(["mount", *options, copy.device, str(point)], check=True)
                try:
                    found += self._numbers(point)
                finally:
                    subprocess.run(["umount", str(point)], check=True)
            finally:
                copy.close()
        return sorted(found)

    @staticmethod
    def _numbers(mount: Path) -> list[int]:
        log = mount / "log"
        return [int(line) for line in log.read_text().split()] if log.exists() else []


def snapshots(point: SharedPoint) -> dict[str, str]:
    """Return the snapshot of each member's disk."""
    return {name: part.disks[0].snapshot for name, part in point.parts.items()}


def without_cause(numbers: list[int]) -> int:
    """Return how many numbers are there though an earlier one is not."""
    return next((len(numbers) - index for index, number in enumerate(numbers) if number != index), 0)
