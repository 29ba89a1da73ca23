"""A vault in memory whose clock a test turns, filled by the real writer."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from dr.compile import names
from dr.vault import declared
from dr.vault.digests import CHUNK_BYTES
from dr.vault.manifest import Manifest, format_time
from dr.vault.memory import MemoryBlobStore
from dr.vault.points import list_points
from dr.vault.replica import DiskSpec, ReplicaSet, Write

START = datetime(2026, 5, 17, 10, 0, tzinfo=UTC)


@dataclass
class Vault:
    """`now` is the time of the store, of the writers and of a pass."""

    now: datetime = START
    store: MemoryBlobStore = field(init=False)
    writers: dict[str, ReplicaSet] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = MemoryBlobStore(lambda: self.now)

    def declare(self, retention: timedelta = timedelta(days=1), *servers: str) -> None:
        seconds = {server: int(retention.total_seconds()) for server in servers}
        declared.tell(self.store, "lab", seconds)

    def cut(self, server: str = "shop1", **more: object) -> Manifest:
        """Let the server's writer make a point now; `more` is what the agent says of it besides."""
        writer = self.writers.get(server) or self._open(server)
        number = self.numbers[server] = self.numbers.get(server, 0) + 1
        content = number.to_bytes(4, "big") * (CHUNK_BYTES // 4)
        writer.apply([Write("os", (number % 8) * CHUNK_BYTES, content, CHUNK_BYTES)], writer.sequence + 1)
        cut = {"number": number, "kind": "crash-consistent", "cut_time": format_time(self.now), **more}
        return writer.cut(cut, writer.sequence + 1)

    def cut_every(self, step: timedelta, count: int, server: str = "shop1") -> list[Manifest]:
        points = []
        for _ in range(count):
            points.append(self.cut(server))
            self.now += step
        return points

    def points(self, server: str = "shop1") -> list[Manifest]:
        """Return the points, oldest first."""
        return list_points(self.store, server)[::-1]

    def snapshots(self, server: str = "shop1") -> set[tuple[str, str]]:
        entries = self.store.inventory(names.REPLICAS, f"{server}/")
        return {(entry.name, entry.snapshot) for entry in entries if entry.snapshot}

    def select(self, point: Manifest, run: str = "r1") -> None:
        """Write what a run writes when it chose a point."""
        disks = [{"name": d.name, "blob": d.blob, "snapshot": d.snapshot} for d in point.disks]
        document = {"schema": 1, "point": {"id": point.id, "disks": disks}}
        self.store.put(names.RUNS, f"shop/{run}/point-{point.server}.json", json.dumps(document).encode())

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()

    def _open(self, server: str) -> ReplicaSet:
        writer = ReplicaSet.open(
            self.store,
            server,
            site="lab",
            protection_epoch=1,
            process_server="ps1",
            disks=[DiskSpec("os", 8 * CHUNK_BYTES)],
            facts={},
            clock=lambda: self.now,
        )
        self.writers[server] = writer
        return writer
