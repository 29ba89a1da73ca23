"""Tracks one disk into a chunk map, until told to end: `python -m tests.tracking.watcher`, one JSON line on stdin.

`{"instance", "device", "node", "size", "folder", "map", "fresh", "bomb"}`; prints `ready`, and at the end of stdin how
many
events of the ring the maps have not marked: runs of the program that the kernel skipped.
"""

from __future__ import annotations

import json
import select
import sys
import threading
from typing import Any

from agent import tracker
from agent.chunk_map import CHUNK_SECTORS, map_file
from tests.tracking.killable import Bomb

ROUND_SECONDS = 0.05
RING_KIB = 32768


def watch(told: dict[str, Any]) -> None:
    device, size = told["device"], told["size"]
    chunks = map_file(told["map"], size, create=False)
    name, disks = told["instance"], {device: ("disk", told["node"], size)}
    config = tracker.configure("/sys/kernel/tracing", name, f"/sys/fs/bpf/{name}", told["folder"], disks, RING_KIB)

    def mark(_: int, sector: int, sectors: int) -> None:
        chunks.mark(sector // CHUNK_SECTORS, (sector + sectors - 1) // CHUNK_SECTORS)

    both = tracker.make(config) if told["fresh"] else tracker.reopen(config)
    both.recover(mark)
    print("ready", flush=True)
    if told["bomb"]:
        bomb = Bomb(told["bomb"], 1)
        threading.setprofile(bomb.look)
        sys.setprofile(bomb.look)
    while not select.select([sys.stdin], [], [], ROUND_SECONDS)[0]:
        both.round(mark, lambda: None)
    both.round(mark, lambda: None)
    certificate = both.round(mark, lambda: None)
    assert certificate.complete and both.kind == "ring+maps", certificate
    print(certificate.unmarked_events, flush=True)


if __name__ == "__main__":
    watch(json.loads(sys.stdin.readline()))
