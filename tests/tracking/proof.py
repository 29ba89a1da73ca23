"""The proof: named scenarios once, then chance, for as long as asked; after each, disks and replicas byte by byte."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dr.compile import names
from tests.agent.protected import wait_for
from tests.agent.whole_site import SERVER
from tests.tracking.interrupts import InterruptDisk
from tests.tracking.killable import STEPS
from tests.tracking.server import Server
from tests.tracking.site import NAMES, Site

SETTLE_SECONDS = 60.0
BOMB_SECONDS = 6.0
STEP_SECONDS = 10.0
OLD_WRITER_SECONDS = 25.0  # longer than a process server waits before it asks the store again


@dataclass
class Verdict:
    """The line that the proof ends with; `failures` says what was wrong, in words."""

    writes: int = 0
    chunks_lost: int = 0
    kills: int = 0
    takeovers: int = 0
    tracer_runs_skipped: int = 0
    injected_resyncs: int = 0
    resyncs: int = 0
    disks: list[str] = field(default_factory=list)
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.failures and self.chunks_lost == 0 and self.resyncs == self.injected_resyncs

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Proof:
    """Runs scenarios until the time is over or something is lost."""

    def __init__(self, folder: Path, seconds: float, say: Callable[[str], None], first: str = "") -> None:
        self._first = first
        self._began = time.monotonic()
        self._ends = self._began + seconds
        self._say = say
        self.verdict = Verdict()
        with ExitStack() as made:
            self.site = Site(folder)
            made.callback(self.site.close)
            self.server = Server(folder, self.site)
            made.callback(self.server.close)
            self.interrupts = InterruptDisk()
            made.callback(self.interrupts.close)
            self._made = made.pop_all()

    def run(self) -> Verdict:
        verdict = self.verdict
        try:
            self._initial()
            for scenario in self._scenarios():
                if not verdict.passed or (verdict.seconds and time.monotonic() > self._ends):
                    break
                self._say(f"{time.monotonic() - self._began:6.1f} s  {scenario.__name__.strip('_')}")
                scenario()
                self._compare(scenario.__name__.strip("_"))
        except AssertionError as error:
            verdict.failures.append(str(error)[-2000:])
        self._sum_up()
        return verdict

    def _scenarios(self) -> Any:
        named = [
            self._slow_writes,
            self._lost_with_its_spool,
            self._killed_between_digest_and_page,
            self._cut_off_and_back,
            self._killed_at_every_step,
            self._killed_at_the_slots,
            self._overrun_and_killed_in_the_merge,
            self._skipped_runs,
            self._overrun_that_the_maps_do_not_have,
            self._reboot,
        ]
        yield from sorted(named, key=lambda scenario: scenario.__name__ != f"_{self._first}")
        steps = list(STEPS)
        random.shuffle(steps)
        self.verdict.seconds = 1.0  # the named ones are always done; from here on the time counts
        for number in range(1 << 30):
            if number % 4 == 3:
                yield random.choice(named)
            elif number % 2:
                yield self._chance
            else:
                self._step = steps[number // 2 % len(steps)]
                yield self._killed_at_a_step

    def _initial(self) -> None:
        self.server.write(0.5).wait()
        self.server.start()
        self._compare("initial replication")

    def _compare(self, what: str) -> None:
        self.site.restore()
        lost = self.server.differing_chunks(SETTLE_SECONDS)
        if lost:
            self.verdict.chunks_lost += len(lost)
            self.verdict.failures.append(f"{what}: differ for good: {lost[:8]}")
        self._count()
        if self.verdict.resyncs != self.verdict.injected_resyncs:
            self.verdict.failures.append(f"{what}: resyncs {self.server.resyncs}")

    def _count(self) -> None:
        self.verdict.resyncs, self.verdict.injected_resyncs = len(self.server.resyncs), self.server.injected

    # -- what is proved ----------------------------------------------------------------------------------------

    def _slow_writes(self) -> None:
        """Writes are under way while their chunks are read."""
        self.server.write(1.5, [self.server.slow]).wait()

    def _lost_with_its_spool(self) -> None:
        """A process server is lost with what it had received and not stored."""
        self.site.vault.gates["ps1"].shut = True
        self.server.write(0.5).wait()
        self._wait_received()
        self.site.burn("ps1")
        self.verdict.takeovers += 1
        self.site.start("ps1")

    def _killed_between_digest_and_page(self) -> None:
        """A process server is killed just before it writes a page; no digest may claim what is not there."""
        died = threading.Event()
        process = self.site.process("ps1")

        def hook(operation: str, args: tuple[Any, ...]) -> None:
            if operation in ("write_pages", "clear_pages") and not args[1].endswith(".digests"):
                self.site.vault.gates["ps1"].shut = True
                os.kill(process.pid, signal.SIGKILL)
                died.set()
                raise ConnectionResetError

        self.server.kill()
        self.server.start()
        self.server.settle(SETTLE_SECONDS)
        self.site.vault.gates["ps1"].hook = hook
        writers = self.server.write(0.5)
        assert died.wait(30), "no page was written"
        self.site.kill("ps1")
        false = [
            (disk.name, chunk)
            for disk in self.server.disks
            for chunk in self.site.vault.false_digests(SERVER, disk.name, disk.disk.size)
        ]
        if false:
            self.verdict.chunks_lost += len(false)
            self.verdict.failures.append(f"digests claim what is not stored: {false[:8]}")
        writers.wait()
        self.site.start("ps1")

    def _cut_off_and_back(self) -> None:
        """A process server is cut off with a full spool, another takes over, and the first comes back."""
        writing = self._writing_server()
        other = next(name for name in NAMES if name != writing)
        ended_before = self.site.log(writing).count("writer ended")
        self.site.vault.gates[writing].shut = True
        self.server.write(0.5).wait()
        self._wait_received()
        self.site.cut_network(writing)
        self.server.write(0.5).wait()
        wait_for("the other writer", lambda: self._writing_server() == other, SETTLE_SECONDS)
        self.server.settle(SETTLE_SECONDS)
        self.verdict.takeovers += 1
        self.site.vault.gates[writing].shut = False
        self.site.connect(writing)
        ends = time.monotonic() + OLD_WRITER_SECONDS
        while self.site.log(writing).count("writer ended") == ended_before:
            if time.monotonic() > ends:
                self._compare("cut off and back")
                self.verdict.failures.append(f"{writing} came back and still writes")
                return
            time.sleep(0.1)

    def _killed_at_the_slots(self) -> None:
        """With the ring alone, the agent dies whenever it has emptied its slots."""
        self.server.protected.changes["bpffs"] = "/proc/self/nowhere"
        writers = self.server.write(3.0)
        for _ in range(3):
            self.server.kill()
            self.server.start("Ring._empty:slots")
            self.server.wait_for_bomb(BOMB_SECONDS)
        writers.wait()
        del self.server.protected.changes["bpffs"]
        self.server.start()

    def _overrun_and_killed_in_the_merge(self) -> None:
        """The ring overruns while no agent runs; the maps have everything, and the agent dies while it takes it."""
        self.server.kill()
        self.server.shrink_ring()
        self.server.write(0.3).wait()
        for bomb in ("Marks._zero", "Marks._tell:count"):
            self.server.start(bomb)
            self.server.wait_for_bomb(BOMB_SECONDS)
        self.server.widen_ring()
        self.server.start()

    def _skipped_runs(self) -> None:
        """Another tracing program makes the kernel skip ours, on a disk that completes in interrupts."""
        skipped = self.interrupts.run(seconds=3.0)
        self.verdict.tracer_runs_skipped += skipped.runs
        self.verdict.writes += skipped.writes
        self.verdict.kills += skipped.kills
        if skipped.lost:
            self.verdict.chunks_lost += skipped.lost
            self.verdict.failures.append(
                f"skipped runs: {skipped.lost} chunks of {self.interrupts.name} are not marked"
            )

    def _overrun_that_the_maps_do_not_have(self) -> None:
        """Both witnesses lose: the one thing that must be a resync, by name."""
        self.server.kill()
        self.server.lose_maps()
        self.server.shrink_ring()
        self.server.write(0.3).wait()
        self.server.injected += 1
        self.server.start()
        wait_for("the resync", lambda: len(self.server.resyncs) == self.server.injected, 30)
        self.server.widen_ring()

    def _reboot(self) -> None:
        """The server restarts: nobody knows what was written meanwhile."""
        self.server.reboot()
        self.server.write(0.3).wait()
        self.server.start()

    def _killed_at_every_step(self) -> None:
        """The agent dies between each two steps of its round, one after the other, the first time it comes there."""
        survived = []
        for step in STEPS:
            writers = self.server.write(1.0)
            self.server.kill()
            self.server.start(step, 1)
            if not self.server.wait_for_bomb(STEP_SECONDS):
                survived.append(step)
            writers.wait()
            self._compare(f"killed at {step}")
        if survived:
            self.verdict.failures.append(f"never came to {', '.join(survived)}")

    def _killed_at_a_step(self) -> None:
        """The agent dies between two steps of its round, twice."""
        self._say(f"          {self._step}")
        writers = self.server.write(2.0)
        for _ in range(2):
            self.server.kill()
            self.server.start(self._step, random.choice([1, 1, 2, 5]))
            self.server.wait_for_bomb(2.0)
        writers.wait()

    def _chance(self) -> None:
        """Everything at once."""
        writers = self.server.write(4.0)
        while writers.running:
            time.sleep(random.uniform(0.1, 0.8))
            random.choice([self._kill_agent, self._kill_process_server, self._cut_network, self._burn])()
        writers.wait()

    def _kill_agent(self) -> None:
        self.server.kill()
        time.sleep(random.choice([0, 0, 0.5]))
        self.server.start()

    def _kill_process_server(self) -> None:
        name = random.choice(NAMES)
        self.site.kill(name)
        self.site.start(name)

    def _burn(self) -> None:
        name = random.choice(NAMES)
        self.site.burn(name)
        self.verdict.takeovers += 1
        self.site.start(name)

    def _cut_network(self) -> None:
        name = random.choice(NAMES)
        self.site.cut_network(name)
        time.sleep(random.uniform(0.1, 0.5))
        self.site.connect(name)

    # -- what the site and the agent say -----------------------------------------------------------------------

    def _wait_received(self) -> None:
        """Wait until everything marked was received by a process server, and stored by none."""
        if not self.server.running:
            self.server.start()

        def received() -> bool:
            status = self.server.protected.status()
            return (
                status.get("pending_bytes") == 0
                and not self.server.protected.traced_events()
                and status["sequence"] > status["stored_sequence"]
            )

        wait_for("everything received", received, SETTLE_SECONDS)
        time.sleep(1.5)  # the status is as old as that

    def _writing_server(self) -> str:
        content, _ = self.site.vault.store.get(names.REPLICAS, names.writer_blob(SERVER))
        return next(name for name in NAMES if f'"{name}/'.encode() in content)

    def _sum_up(self) -> None:
        verdict = self.verdict
        self._count()
        verdict.writes += self.server.writes
        verdict.kills += self.server.kills + self.site.kills
        verdict.disks = [*self.server.names, self.interrupts.name]
        verdict.seconds = round(time.monotonic() - self._began, 1)

    def close(self) -> None:
        self._made.close()
