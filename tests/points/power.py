"""Power cuts of a process server: at any change of its spool's file system, and at any call of the store.

A scripted agent sends segments and cuts over TLS until the power goes. What must hold then, each time:
- the newest listed point is whole: its snapshots are there, its digests are right, its content is what was sent;
- what was acknowledged as `received` is still there when the process server comes back, before anybody sends it again.
"""

from __future__ import annotations

import hashlib
import random
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from agent.link import Answer, Link, Tls
from dr.compile import names
from dr.errors import Conflict, LifeboatError, Unreachable
from dr.vault.manifest import Manifest
from dr.vault.points import list_points
from dr.vault.verify import verify_point
from tests.agent.whole_site import SERVER, certificates
from tests.points import process_server
from tests.points.forgetful import ForgetfulDisk
from tests.process_server.scripted import CHUNK, CHUNKS, content_of, cut_segment, data_segment
from tests.tracking.vault import Vault

DISKS = ("os", "data")
OPENING = {
    "protection_epoch": 1,
    "disks": [{"name": name, "size_bytes": CHUNKS * CHUNK} for name in DISKS],
    "facts": {"firmware": "bios"},
}
MOST_OPERATIONS = 60  # before the power goes
MOST_SEGMENTS = 200  # by then it has gone
NAME = "ps1"


@dataclass
class Sent:
    """The stream as it was sent: what each disk holds after each segment."""

    segments: list[tuple[str, dict[tuple[str, int], str]]] = field(default_factory=list)  # kind, chunks by tag

    def content(self, upto: int, disk: str) -> bytes:
        chunks: dict[int, str] = {}
        for _, changes in self.segments[:upto]:
            chunks.update({chunk: tag for (name, chunk), tag in changes.items() if name == disk})
        return b"".join(content_of(chunks[at]) if at in chunks else bytes(CHUNK) for at in range(CHUNKS))


class PowerCuts:
    """Cuts the power as often as asked; `failures` says in words what was wrong."""

    def __init__(self, folder: Path, seed: int) -> None:
        folder.mkdir()
        self._chance = random.Random(seed)
        self._folder = folder
        self._vault = Vault(folder)
        self._files = certificates(folder)
        self._sent = Sent()
        self._received = 0
        self._port = 0
        self._process: BaseProcess | None = None
        self.torn, self.lost, self.cuts, self.points = 0, 0, 0, 0
        self.failures: list[str] = []
        self._disk = ForgetfulDisk(folder / "disk")

    def run(self, moments: int) -> None:
        while self.cuts < moments and not self.failures:
            self._one()

    def _one(self) -> None:
        """Start, take up what was kept, work until the power goes, and look."""
        gate = self._vault.open_gate(NAME)
        told = {
            "name": NAME,
            "port": self._port,
            "cert": str(self._files.server[0]),
            "tls_key": str(self._files.server[1]),
            "ca": str(self._files.ca),
            "spool": str(self._disk.folder / "var" / "spool"),
            "vault": self._vault.address,
            "key": self._vault.key,
            "log": str(self._folder / "ps1.log"),
        }
        process, ready = self._process, _ = process_server.start(told)
        assert process.pid is not None
        operations, after = self._chance.randint(1, MOST_OPERATIONS), self._chance.random() < 0.5
        if self._chance.random() < 0.5:
            self._disk.order(do="arm", process=process.pid, operations=operations, after=after)
        else:
            counting, left = threading.Lock(), [operations]

            def hook(operation: str, args: tuple[Any, ...]) -> None:
                with counting:  # calls come in parallel
                    left[0] -= 1
                    if left[0]:
                        return
                    gate.shut = True
                    self._disk.order(do="off", process=process.pid)
                    raise ConnectionResetError

            if after:
                gate.after = hook
            else:
                gate.hook = hook
        with suppress(Unreachable, EOFError):
            self._port = ready.recv()
            self._work(process.pid)
        process.join(30)
        if process.exitcode != -signal.SIGKILL:
            said = (self._folder / "ps1.log").read_text()[-1000:]
            self.failures.append(f"the process server ended by itself, or not at all ({process.exitcode}): {said}")
            process.kill()
        gate.shut = True
        self.cuts += 1
        self._look()
        self._disk.order(do="on", chance=self._chance.choice([None, self.cuts]))

    def _work(self, process: int) -> None:
        link = Link(f"127.0.0.1:{self._port}", Tls(str(self._files.ca), *map(str, self._files.agent)))
        try:
            while True:
                with suppress(Conflict):  # the writer took its replica once more: open again, as an agent does
                    self._stream(link)
        finally:
            link.close()

    def _stream(self, link: Link) -> None:
        """Open the stream, see what was kept, and send until the end."""
        opened = self._ask(link, "POST", "/stream", {**OPENING, "next_sequence": 1, "stored_sequence": 0}).body
        kept = opened["received_sequence"]
        if kept < self._received:
            self.lost += 1
            self.failures.append(f"{self._received} was received, {kept} is left after the power came back")
        # What was on its way when the power went may have been kept, too.
        del self._sent.segments[kept:]
        assert opened["next_sequence"] == kept + 1, opened
        ends = kept + MOST_SEGMENTS
        while kept < ends:
            self._received = kept
            kept += 1
            self._send(link, kept, opened["writer_epoch"])
        raise AssertionError(f"the power did not go within {MOST_SEGMENTS} segments")

    def _send(self, link: Link, sequence: int, writer_epoch: int) -> None:
        if sequence % 4 == 0:
            self._sent.segments.append(("cut", {}))
            segment = cut_segment(1, sequence, sequence, requested="asked for")
        else:
            disk = self._chance.choice(DISKS)
            tags = {(disk, chunk): f"{self.cuts} {sequence} {chunk}" for chunk in self._chance.sample(range(CHUNKS), 2)}
            self._sent.segments.append(("data", tags))
            segment = data_segment(1, sequence, disk, {chunk: content_of(tag) for (_, chunk), tag in tags.items()})
        answer = self._ask(link, "PUT", f"/segments/1/{sequence}?writer_epoch={writer_epoch}", segment)
        assert answer.body["received"] == sequence, answer.body

    def _ask(self, link: Link, method: str, path: str, body: Any) -> Answer:
        ends = time.monotonic() + 30
        while time.monotonic() < ends:
            answer = link.request(method, f"/v1/servers/{SERVER}{path}", body, seconds=20)
            if answer.ok:
                return answer
            if answer.code == "writer-changed":
                raise Conflict(answer.message, code=answer.code)
            # The spool's file system or the store answers with errors between the cut and the end of the process.
            if answer.code not in ("spool-full", "store-unavailable", "internal-error"):
                raise AssertionError(f"{method} {path}: {answer.code}: {answer.message}")
            time.sleep(0.05)
        raise AssertionError(f"{method} {path} was not answered")

    def _look(self) -> None:
        """Prove the newest listed point against its digests, and against what was sent."""
        points = list_points(self._vault.store, SERVER)
        self.points = len(points)
        if not points:
            return
        newest = points[0]
        wrong = self._wrong(newest)
        if wrong:
            self.torn += 1
            self.failures.append(f"after power cut {self.cuts}: {newest.id} is not whole: {wrong}")

    def _wrong(self, point: Manifest) -> str:
        try:
            mismatches = verify_point(self._vault.store, point)
        except LifeboatError as error:
            return error.message
        if mismatches:
            return str(mismatches[:3])
        for disk in point.disks:
            found = self._vault.store.read(names.REPLICAS, disk.blob, 0, disk.size_bytes, snapshot=disk.snapshot)
            wanted = self._sent.content(point.sequence, disk.name)
            if hashlib.sha256(found).digest() != hashlib.sha256(wanted).digest():
                return f"{disk.name} is not what was sent before the cut"
        return ""

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join(10)
        self._disk.close()
        self._vault.close()
