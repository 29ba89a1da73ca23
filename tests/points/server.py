"""The protected server of the proof: four disks whose images can be reflinked, six places for the log, an agent."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path

from tests.agent.protected import CHECKOUT, MIB, LoopDisk, Protected
from tests.agent.whole_site import Site
from tests.points.log import PACE, RECORD, SLOTS

FICLONE = 0x40049409
STAGE_BYTES = 8 << 30
START = 1 * MIB  # of the first partition
PARTITION = 28 * MIB
QUIET_PACE = 0.15  # seconds between two records, so that there is a quiet interval now and then


def run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True)


def reflink(source: Path, target: Path) -> None:
    """Make `target` the same content as `source` is now; the file system's own, no reading and no writing."""
    with source.open("rb") as old, target.open("wb") as new:
        fcntl.ioctl(new, FICLONE, old.fileno())


class Workload:
    """The log's writer, and what it tells of records that took long."""

    def __init__(self, places: list[Path]) -> None:
        command = [sys.executable, "-m", "tests.points.log", *map(str, places)]
        self._process = subprocess.Popen(
            command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._slow: list[tuple[float, float]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            _, began, took = line.split()
            self._slow.append((float(began), float(began) + float(took)))

    def pace(self, seconds: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"pace {seconds}\n")
        self._process.stdin.flush()

    def stall(self, cut_time: str, freeze_ms: float) -> float:
        """Return how long, in milliseconds, the longest record took that was under way during a cut."""
        at, around = datetime.fromisoformat(cut_time).timestamp(), freeze_ms / 1000
        during = [ended - began for began, ended in list(self._slow) if began < at + around and ended > at - around]
        return 1000 * max(during, default=0.0)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def close(self) -> None:
        self._process.kill()
        self._process.wait(20)


class Server:
    """Everything below one folder; `disks` by name, as the agent knows them."""

    def __init__(self, folder: Path, site: Site) -> None:
        self.stage = folder / "stage"
        self.stage.mkdir()
        with ExitStack() as made:
            image = folder / "stage.img"
            with image.open("wb") as file:
                file.truncate(STAGE_BYTES)
            run("mkfs.xfs", "-q", "-m", "reflink=1", image)
            run("mount", "-o", "loop", image, self.stage)
            made.callback(run, "umount", self.stage)
            self.protected = Protected(self.stage / "server", site)
            made.callback(self.protected.close)
            self._mounts: list[Path] = []
            self._workload: Workload | None = None
            made.callback(self._umount)
            places = self._prepare()
            self.mount_points = [str(mount) for mount in self._mounts]
            self.workload = self._workload = Workload(places)
            self._made = made.pop_all()

    def _prepare(self) -> list[Path]:
        system = self.protected.disk("system", 64 * MIB)
        table = "".join(f"start={place // 512},size={PARTITION // 512}\n" for place in (START, START + PARTITION))
        command = ["sfdisk", "-q", "--no-reread", "--no-tell-kernel", system.device]
        subprocess.run(command, input=table, text=True, check=True)
        run("partx", "--update", system.device)  # a loop device may have kept those of another test
        data, files = self.protected.disk("data", 64 * MIB), self.protected.disk("files", 64 * MIB)
        raw = self.protected.disk("raw", SLOTS * RECORD)
        first = self._mount("first", f"{system.device}p1", "ext4")
        second = self._mount("second", f"{system.device}p2", "ext4")
        third = self._mount("third", data.device, "xfs")
        lower = self._mount("lower", files.device, "ext4")
        inner = lower / "inner.img"
        run("truncate", "-s", 24 * MIB, inner)
        upper = self._mount("upper", inner, "ext4")
        return [first, third, upper, Path(raw.device), second, lower]

    def _mount(self, name: str, device: str | Path, kind: str) -> Path:
        # So small an XFS is for tests only, says its maker; but every point is read from end to end.
        run(f"mkfs.{kind}", "-q", *(["--unsupported"] if kind == "xfs" else []), device)
        point = self.protected.folder / name
        point.mkdir()
        run("mount", *(["-o", "loop"] if isinstance(device, Path) else []), device, point)
        self._mounts.append(point)
        return point

    def _umount(self) -> None:
        if self._workload is not None:
            self._workload.close()
        if self.protected.process is not None:
            self.protected.kill()
        for point in reversed(self._mounts):
            run("umount", point)
        run("partx", "--delete", self.disks["system"].device)

    @property
    def disks(self) -> dict[str, LoopDisk]:
        return {disk.name: disk for disk in self.protected.disks}

    def picture(self, folder: Path) -> None:
        """Take everybody's picture, by the file system below: call it while the server is frozen."""
        folder.mkdir()
        for disk in self.disks.values():
            reflink(disk.image, folder / f"{disk.name}.img")

    def freezing(self, *, on: bool) -> None:
        """Let the agent freeze, or nothing any more: as after an overrun of each file system's deadline."""
        file = self.protected.run_folder / "freezing-off.json"
        if on:
            file.unlink()
        else:
            why = {"code": "freeze-deadline", "message": "the proof says so", "remedy": "none"}
            file.write_text(json.dumps(dict.fromkeys(self.mount_points, why)))
        self.workload.pace(PACE if on else QUIET_PACE)
        time.sleep(0.5)

    def close(self) -> None:
        self._made.close()
