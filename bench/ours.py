"""Lifeboat itself for a run: a site's certificates, a process server and an agent, each a process of its own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.identity import disk_facts, product_uuid
from agent.state import Positions
from bench.disk import LoopDisk, WrongCopy
from bench.usage import cpu_seconds_of, peak_memory_bytes
from dr.certificates import authority
from dr.certificates.authority import identity_uri
from dr.certificates.lifetime import CERTIFICATE_DAYS
from dr.certificates.site import SiteCertificates
from dr.chunk import CHUNK_BYTES, digest
from dr.push.blockers import TRACKER_KIB
from dr.push.plan import BUFFER_BYTES
from dr.vault.digests import DigestTable

CHECKOUT = Path(__file__).resolve().parents[1]
SITE, SERVER, DISK = "bench", "source", "disk"
NOBODY = "127.0.0.1:1"  # no configuration server: its heartbeat is one request in five seconds
_LOOK_SECONDS = 0.05


class Site:
    """A process server below `folder`; with `azurite` (url, account, key) it writes there, else into `TakingStore`."""

    def __init__(self, folder: Path, azurite: Mapping[str, str] | None = None) -> None:
        folder.mkdir()
        self.folder = folder
        certificates = SiteCertificates(folder)
        certificates.prepare(authority.create(f"ca-{SITE}"), site=SITE, server="ps1", addresses=["127.0.0.1"])
        self.ca, self.certificate, self.key = (folder / "tls" / name for name in ("ca.crt", "server.crt", "server.key"))
        issuing = certificates.issuing().authority
        chain, key = authority.issue(
            issuing, uri=identity_uri(SITE, "agent", SERVER), addresses=[], days=CERTIFICATE_DAYS
        )
        (folder / "agent.crt").write_bytes(chain)
        (folder / "agent.key").write_bytes(key)
        self._log = (folder / "process-server.log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bench.serving"],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        told = {"site": SITE, "server": SERVER, "ca": str(self.ca), "cert": str(self.certificate)}
        told |= {"tls_key": str(self.key), "spool": str(folder / "spool")}
        self.port = int(self._ask({**told, "azurite": azurite}))

    def report(self, disk: LoopDisk | None = None) -> dict[str, Any]:
        """Return the moments of the stream, and the Merkle root of a disk's digests."""
        question = {} if disk is None else {"disk": DISK, "size_bytes": disk.size_bytes}
        answer: dict[str, Any] = json.loads(self._ask(question))
        return answer

    def close(self) -> None:
        """End the process server."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)
        self._log.close()

    def _ask(self, question: Mapping[str, Any]) -> str:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the process server ended: {(self.folder / 'process-server.log').read_text()[-2000:]}")
        return answer


class Agent:
    """The agent of one disk; replicates to `site`, or to nobody (then it tracks and waits)."""

    def __init__(self, folder: Path, disk: LoopDisk, site: Site, *, alone: bool = False) -> None:
        folder.mkdir()
        self.disk = disk
        self._folder = folder
        self._instance = f"lifeboat-bench-{secrets.token_hex(6)}"
        self._run_folder = Path("/dev/shm") / self._instance  # a tmpfs, as /run is
        self._config = folder / "agent.json"
        self._config.write_text(json.dumps(self._settings(site, NOBODY if alone else f"127.0.0.1:{site.port}")))
        self._log = (folder / "agent.log").open("ab")
        self.process = self._command("run")

    @property
    def memory_bytes(self) -> int:
        """Return its peak memory, the ring's and the maps' included: they are the agent's though the kernel's."""
        return peak_memory_bytes(self.process.pid) + TRACKER_KIB * 1024 + 2 * self.disk.size_bytes // CHUNK_BYTES

    @property
    def events(self) -> int:
        """Return how many completed writes the tracker has read so far."""
        return Positions(str(self._run_folder / "positions")).get("events")

    def wait_until_tracking(self, seconds: float = 60.0) -> None:
        """Wait until every completed write is seen."""
        self._wait((self._run_folder / "status.json").exists, seconds)

    def wait_until_read(self, seconds: float = 60.0) -> None:
        """Wait until everything that was traced so far is read."""
        self._wait(lambda: not self._traced(), seconds)

    def wait_until_stored(self, seconds: float) -> None:
        """Wait until every chunk is stored: nothing is traced and unread, nothing marked, nothing on its way."""
        clean = bytes(-(-self.disk.size_bytes // CHUNK_BYTES))
        chunks = self._run_folder / f"{DISK}.map"
        # The ring is read first: what it holds is not in the map yet.
        self._wait(lambda: not self._traced() and not self._traced() and chunks.read_bytes() == clean, seconds)

    def close(self) -> None:
        """End the agent and remove what it left in the kernel and on the tmpfs."""
        self.process.terminate()
        self.process.wait(30)
        done = self._command("cleanup").wait(30)
        self._log.close()
        shutil.rmtree(self._run_folder, ignore_errors=True)
        if done:
            raise RuntimeError(f"the agent's cleanup ended with {done}: {self._said()}")

    def _traced(self) -> int:
        stats = Path(f"/sys/kernel/tracing/instances/{self._instance}/per_cpu").glob("cpu*/stats")
        return sum(int(file.read_text().split("entries:")[1].split()[0]) for file in stats)

    def _wait(self, true: Any, seconds: float) -> None:
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if self.process.poll() is not None:
                raise RuntimeError(f"the agent ended: {self._said()}")
            try:
                if true():
                    return
            except FileNotFoundError:
                pass  # it is just being made
            time.sleep(_LOOK_SECONDS)
        raise TimeoutError(f"the agent is not done after {seconds:.0f} s: {self._said()}")

    def _said(self) -> str:
        return (self._folder / "agent.log").read_text()[-2000:]

    def _command(self, name: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "agent", name, "--config", str(self._config)]
        return subprocess.Popen(command, cwd=CHECKOUT, stdout=self._log, stderr=self._log)

    def _settings(self, site: Site, process_server: str) -> dict[str, Any]:
        size_bytes, serial = disk_facts(self.disk.device)
        tls = {"ca": site.ca, "cert": site.folder / "agent.crt", "key": site.folder / "agent.key"}
        return {
            "server": SERVER,
            "site": SITE,
            "protection_epoch": 1,
            "configuration_server": NOBODY,
            "process_servers": [process_server],
            "disks": [{"name": DISK, "device": self.disk.device}],
            "tls": {**{name: str(path) for name, path in tls.items()}, "token": str(site.folder / "token.pem")},
            "hardware": {
                "product_uuid": product_uuid(),
                "disks": {DISK: {"size_bytes": size_bytes, "serial": serial}},
            },
            "policy": {"crash_consistent_seconds": 86400},
            "limits": {"tracker_kib": TRACKER_KIB, "buffer_bytes": BUFFER_BYTES},
            "run_folder": str(self._run_folder),
            "cache_folder": str(self._folder / "cache"),
            "instance": self._instance,
        }


class Replicating:
    """A site and an agent together, and what they cost so far."""

    def __init__(self, folder: Path, disk: LoopDisk, azurite: Mapping[str, str] | None = None) -> None:
        folder.mkdir()
        self._folder = folder
        self.site = Site(folder / "site", azurite)
        self.begun = time.monotonic()
        self.agent = Agent(folder / "agent", disk, self.site)

    @property
    def cpu_seconds(self) -> float:
        """Return the processor time of both sides so far."""
        return cpu_seconds_of(self.site.process.pid, self.agent.process.pid)

    def wait_until_stored(self, seconds: float) -> tuple[float, float]:
        """Return the moments at which the last data was `received` and `stored` (`time.monotonic`), once it is."""
        self.agent.wait_until_stored(seconds)
        report = self.site.report()
        return moments_of_all(report["moments"], report["cuts"])

    def require_equal(self) -> None:
        """Raise `WrongCopy` unless the replica's digests are those of the disk."""
        found = self.site.report(self.agent.disk)["digests"]
        if found != _merkle_root(self.agent.disk):
            raise WrongCopy("lifeboat: the replica's digests are not those of the disk")

    def close(self) -> None:
        """End both and remove their files."""
        self.agent.close()
        self.site.close()
        shutil.rmtree(self._folder)


def moments_of_all(moments: list[tuple[float, int, int]], cuts: list[int]) -> tuple[float, float]:
    """Return when the last data segment was received and when it was stored; `moments` are (time, received, stored).

    All data is stored by then. A cut is no data: one that came last is left out.
    """
    last = max(stored for _, _, stored in moments)
    while last in cuts:
        last -= 1
    received = next(moment for moment, position, _ in moments if position >= last)
    stored = next(moment for moment, _, position in moments if position >= last)
    return received, stored


def _merkle_root(disk: LoopDisk) -> str:
    table = DigestTable(disk.size_bytes)
    with open(disk.image, "rb", buffering=0) as image:
        os.posix_fadvise(image.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        for chunk in range(table.chunks):
            table.set(chunk, digest(image.read(CHUNK_BYTES)))
    return table.merkle_root()
