"""A protected server for tests: loop devices as its disks and the agent as a process of its own."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import jsonschema

from agent.identity import disk_facts, product_uuid
from tests.agent.whole_site import SERVER, SITE, Files

CHECKOUT = Path(__file__).resolve().parents[2]
STATUS_SCHEMA = json.loads((CHECKOUT / "docs/formats/agent-status.schema.json").read_text())
MIB = 1 << 20
CHUNK = 65536


def wait_for(what: str, true: Callable[[], Any], seconds: float = 30.0) -> Any:
    """Return what `true` returns as soon as it is truthy; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = true()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"not within {seconds} s: {what}")


class LoopDisk:
    """A loop device over a file; O_DIRECT to the device, so that content is what the device holds."""

    def __init__(self, folder: Path, name: str, size: int, content: bytes = b"") -> None:
        self.name = name
        self.size = size
        self.image = folder / f"{name}.img"
        with self.image.open("wb") as file:
            file.write(content)
            file.truncate(size)
        self.device = self._attached()

    def rename(self) -> None:
        """Let the same disk appear under another device name and number, as after a new order of controllers."""
        before, self.device = self.device, self._attached()
        subprocess.run(["losetup", "--detach", before], check=True)

    def _attached(self) -> str:
        # Another test may take the same free device between the question and the answer; losetup repeats then.
        command = ["losetup", "--find", "--show", str(self.image)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def write(self, offset: int, data: bytes) -> None:
        """Write past the page cache of the device."""
        descriptor = os.open(self.device, os.O_WRONLY | os.O_DSYNC)
        try:
            os.pwrite(descriptor, data, offset)
        finally:
            os.close(descriptor)

    def content(self) -> bytes:
        subprocess.run(["blockdev", "--flushbufs", self.device], check=True)
        return self.image.read_bytes()

    def close(self) -> None:
        subprocess.run(["losetup", "--detach", self.device], check=True)


def fill(disk: LoopDisk, chunks: Iterable[int], tag: object = 0) -> None:
    """Write each of the chunks, with content that `tag` and the chunk's number alone decide."""
    for chunk in chunks:
        disk.write(chunk * CHUNK, random.Random(f"{tag}/{chunk}").randbytes(CHUNK))


class Home(Protocol):
    """What an agent needs of a site, and a test of its vault."""

    files: Files
    configuration_port: int

    @property
    def process_port(self) -> int: ...

    def replica(self, disk: str, size: int, snapshot: str | None = None, server: str = SERVER) -> bytes: ...


class Protected:
    """The server: `disks` first, then `start` the agent as often as a test kills it."""

    def __init__(self, folder: Path, site: Home, server: str = SERVER) -> None:
        folder.mkdir()
        self.folder = folder
        self.server = server
        self.site = site
        self.instance = f"lifeboat-test-{secrets.token_hex(6)}"
        self.disks: list[LoopDisk] = []
        self.mounts: list[Path] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.changes: dict[str, Any] = {}
        self.command = [sys.executable, "-m", "agent"]
        # On a tmpfs, as /run is: the agent must be able to write there while a disk is frozen.
        self.run_folder = Path("/dev/shm") / self.instance
        self.log = folder / "agent.log"

    def disk(self, name: str, size: int) -> LoopDisk:
        disk = LoopDisk(self.folder, name, size)
        self.disks.append(disk)
        return disk

    def mount(self, disk: LoopDisk, kind: str = "ext4") -> Path:
        subprocess.run([f"mkfs.{kind}", "-q", disk.device], check=True)
        point = self.folder / f"mnt-{disk.name}"
        point.mkdir()
        subprocess.run(["mount", disk.device, str(point)], check=True)
        self.mounts.append(point)
        return point

    def config(self) -> dict[str, Any]:
        hardware = {disk.name: disk_facts(disk.device) for disk in self.disks}
        files = self.site.files
        certificate, key = files.agents[self.server]
        return {
            "server": self.server,
            "site": SITE,
            "protection_epoch": 1,
            "configuration_server": f"127.0.0.1:{self.site.configuration_port}",
            "process_servers": [f"127.0.0.1:{self.site.process_port}"],
            "disks": [{"name": disk.name, "device": disk.device} for disk in self.disks],
            "tls": {
                "ca": str(files.ca),
                "cert": str(certificate),
                "key": str(key),
                "token": str(key.with_name("token.pem")),
            },
            "hardware": {
                "product_uuid": product_uuid(),
                "disks": {name: {"size_bytes": size, "serial": serial} for name, (size, serial) in hardware.items()},
            },
            "policy": {"crash_consistent_seconds": 3600},
            "limits": {"tracker_kib": 16384, "buffer_bytes": 32 * MIB},
            "run_folder": str(self.run_folder),
            "cache_folder": str(self.folder / "cache"),
            "instance": self.instance,
            **self.changes,
        }

    def start(self) -> int:
        """Start the agent and return its process id."""
        config = self.folder / "agent.json"
        config.write_text(json.dumps(self.config()))
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.command, "run", "--config", str(config)],
                cwd=CHECKOUT,
                stderr=log,
                stdout=log,
                env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            )
        return self.process.pid

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)
        self.process = None

    def stop(self, seconds: float = 5.0) -> int:
        """Ask the agent to end as systemd does; return its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(seconds)
        self.process = None
        return code

    def status(self) -> dict[str, Any]:
        try:
            document: dict[str, Any] = json.loads((self.run_folder / "status.json").read_text())
        except (OSError, ValueError):
            return {}
        jsonschema.validate(document, STATUS_SCHEMA)
        return document

    def wait_mode(self, mode: str, seconds: float = 30.0) -> dict[str, Any]:
        try:
            return dict(
                wait_for(f"mode {mode}", lambda: self.status() if self.status().get("mode") == mode else None, seconds)
            )
        except AssertionError as error:
            raise AssertionError(f"{error}; status {self.status()}; log {self.log.read_text()}") from None

    def wait_drained(self, seconds: float = 30.0) -> None:
        """Wait until nothing is in the ring, marked, on its way or unacknowledged."""

        def clean() -> bool:
            # What was written just now may still be in the ring, or on its way from there into the maps.
            if self.traced_events():
                return False
            time.sleep(0.1)
            return all(not any((self.run_folder / f"{disk.name}.map").read_bytes()) for disk in self.disks)

        self.wait_mode("delta", seconds)
        try:
            wait_for("every chunk stored", clean, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; status {self.status()}; log {self.log.read_text()}") from None

    def traced_events(self) -> int:
        """Return how many events the agent has not read yet."""
        stats = Path(f"/sys/kernel/tracing/instances/{self.instance}/per_cpu").glob("cpu*/stats")
        try:
            return sum(int(file.read_text().split("entries:")[1].split()[0]) for file in stats)
        except OSError:
            return 1  # the instance is being made anew

    def differing_chunks(self) -> list[tuple[str, int]]:
        """Compare disks and replicas; return the (disk, chunk) that differ."""
        found = []
        for disk in self.disks:
            here, there = disk.content(), self.site.replica(disk.name, disk.size, server=self.server)
            found += [
                (disk.name, start // CHUNK)
                for start in range(0, disk.size, CHUNK)
                if here[start : start + CHUNK] != there[start : start + CHUNK]
            ]
        return found

    def forget(self) -> None:
        """Remove the agent's memory, as removing the agent does."""
        config = self.folder / "agent.json"
        if config.exists():
            subprocess.run(
                [sys.executable, "-m", "agent", "cleanup", "--config", str(config)], cwd=CHECKOUT, check=True
            )

    def close(self) -> None:
        if self.process is not None:
            self.kill()
        self.forget()
        for point in reversed(self.mounts):
            subprocess.run(["umount", str(point)], check=True)
        for disk in self.disks:
            disk.close()
