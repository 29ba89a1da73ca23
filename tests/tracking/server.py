"""The protected server of the proof: all its disks, and an agent that is killed again and again."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.agent.protected import CHECKOUT, MIB, Protected
from tests.tracking.disks import Files, Raw, Slow, Writers, Written, partitioned
from tests.tracking.site import Site

PLAIN = [sys.executable, "-m", "agent"]
BOMB = [sys.executable, "-m", "tests.tracking.killable"]


class Server:
    """Starts with an agent that has replicated everything."""

    def __init__(self, folder: Path, site: Site) -> None:
        self.protected = Protected(folder / "server", site)
        self.protected.changes["process_servers"] = site.addresses
        self._site = site
        self.kills = 0
        self.injected = 0
        self._round = 0
        self.fast: list[Written] = []
        with ExitStack() as made:
            self.slow = Slow(folder, 4 * MIB)
            made.callback(self.slow.close_below)
            made.callback(self.protected.close)
            self.protected.disks.append(self.slow.disk)
            made.callback(self.slow.close)
            for disk in self._fast_disks():
                self.fast.append(disk)
                made.callback(disk.close)
            self._made = made.pop_all()

    def _fast_disks(self) -> Iterator[Written]:
        protected = self.protected
        yield Raw(protected.disk("raw", 24 * MIB + 512))
        yield partitioned(protected.disk("partitions", 24 * MIB))
        for kind, size in (("ext4", 64 * MIB), ("xfs", 320 * MIB)):
            disk = protected.disk(kind, size)
            yield Files(disk, protected.mount(disk, kind))

    @property
    def names(self) -> list[str]:
        return [disk.name for disk in self.disks]

    @property
    def writes(self) -> int:
        return sum(disk.writes for disk in self.disks)

    @property
    def disks(self) -> list[Written]:
        return [*self.fast, self.slow]

    @property
    def running(self) -> bool:
        process = self.protected.process
        return process is not None and process.poll() is None

    @property
    def resyncs(self) -> list[str]:
        """Return the reason of each resync so far, as the agent named it."""
        text = self.protected.log.read_text()
        found = re.findall(r"^resync: ([a-z-]+): |^tracking begins: ([a-z-]+): ", text, re.MULTILINE)
        return [resync or begun for resync, begun in found]

    def write(self, seconds: float, disks: list[Written] | None = None) -> Writers:
        """Begin a round of writes."""
        self._round += 1
        return Writers(disks or self.fast, self._round, seconds)

    def start(self, bomb: str = "", count: int = 1) -> None:
        """Start the agent; with a bomb it kills itself at the `count`-th return of that function."""
        self.protected.command = [*BOMB, bomb, str(count)] if bomb else PLAIN
        self.protected.start()

    def kill(self) -> None:
        if self.protected.process is not None:
            self.protected.kill()
            self.kills += 1

    def wait_for_bomb(self, seconds: float) -> bool:
        """Wait until the agent has killed itself; kill it when it does not. Return whether it did."""
        ends = time.monotonic() + seconds
        while self.running and time.monotonic() < ends:
            time.sleep(0.02)
        blown = not self.running
        self.kill()
        return blown

    def settle(self, seconds: float) -> None:
        """Let an agent run in peace until everything is stored."""
        for disk in self.disks:
            disk.rest()
        if not self.running or self.protected.command != PLAIN:
            self.kill()
            self.start()
        self.protected.wait_drained(seconds)

    def differing_chunks(self, seconds: float) -> list[tuple[str, int]]:
        """Return what differs for good: what was written back late is replicated in the end, what is lost is not."""
        found: list[tuple[str, int]] = []
        for _ in range(3):
            self.settle(seconds)
            found = self.protected.differing_chunks()
            if not found:
                return []
        return found

    def shrink_ring(self) -> None:
        """Make the ring so small that it cannot hold what is written while no agent runs."""
        self._buffer().write_text("8")

    def widen_ring(self) -> None:
        self._buffer().write_text("4096")

    def lose_maps(self) -> None:
        """Remove the pins while no agent holds them."""
        shutil.rmtree(f"/sys/fs/bpf/{self.protected.instance}")

    def reboot(self) -> None:
        """Lose what a reboot loses: ring, maps, and the run folder; the cache says another boot."""
        self.kill()
        config = self.protected.folder / "agent.json"
        kept = self.protected.folder / "cache" / "agent-state.json"
        text = kept.read_text()
        subprocess.run([*PLAIN, "cleanup", "--config", str(config)], cwd=CHECKOUT, check=True)
        kept.parent.mkdir()
        kept.write_text(re.sub(r'"boot_id": "[^"]*"', '"boot_id": "an-earlier-boot"', text))
        self.injected += 1

    def _buffer(self) -> Path:
        return Path("/sys/kernel/tracing/instances") / self.protected.instance / "buffer_size_kb"

    def close(self) -> None:
        self._made.close()
