"""The proof: recovery points of a server that never pauses, each against the log, many against a picture of others'."""

from __future__ import annotations

import math
import random
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dr.errors import LifeboatError
from dr.vault.manifest import Manifest
from dr.vault.points import list_points
from dr.vault.verify import verify_point
from tests.agent.protected import wait_for
from tests.agent.whole_site import SERVER, Site
from tests.points.pictures import Images, digests_of, out_of_order
from tests.points.power import PowerCuts
from tests.points.server import Server

POLICY_SECONDS = 2  # a declaration allows no less than a minute
BLOCK = 10  # points: the last of each block without freezing
UNFROZEN = 3
BARRIER_EVERY = 3
SKIPPED_SHARE = 0.05
STALE_SECONDS = 120.0
CUT_SECONDS = 60.0
TOLD_EVERY = 5  # points
ENDED = ("point", "skipped")


@dataclass
class Verdict:
    """The line that the proof ends with; `failures` says what was wrong, in words."""

    points: int = 0
    points_frozen: int = 0
    points_unfrozen: int = 0
    points_skipped: int = 0
    points_pictured: int = 0
    digest_mismatches: int = 0
    order_violations: int = 0
    torn_points: int = 0
    power_cuts: int = 0
    received_lost: int = 0
    freeze_ms_median: float = 0.0
    freeze_ms_max: float = 0.0
    skipped: dict[str, int] = field(default_factory=dict)
    records: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.failures and not (
            self.digest_mismatches or self.order_violations or self.torn_points or self.received_lost
        )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Proof:
    """Makes `points` recovery points and `power_cuts` power cuts, and looks at each."""

    def __init__(self, folder: Path, points: int, power_cuts: int, say: Callable[[str], None]) -> None:
        self._folder, self._wanted, self._power_cuts, self._say = folder, points, power_cuts, say
        self._began = time.monotonic()
        self.verdict = Verdict()
        self._seen = 0
        self._newest_record = -1
        self._stalls: list[float] = []
        self._pictures: dict[int, Path] = {}
        self._skips: set[str] = set()

    def run(self) -> Verdict:
        verdict = self.verdict
        try:
            if self._wanted:
                self._make_points()
            if self._power_cuts and verdict.passed:
                self._cut_power()
        except (AssertionError, subprocess.SubprocessError) as error:
            verdict.failures.append(str(error)[-2000:])
        if self._stalls:
            verdict.freeze_ms_median = round(statistics.median(self._stalls), 1)
            verdict.freeze_ms_max = round(max(self._stalls), 1)
        if verdict.points_skipped > SKIPPED_SHARE * max(1, verdict.points):
            verdict.failures.append(f"{verdict.points_skipped} points were skipped: {verdict.skipped}")
        verdict.seconds = round(time.monotonic() - self._began, 1)
        return verdict

    # -- points ------------------------------------------------------------------------------------------------

    def _make_points(self) -> None:
        with ExitStack() as made:
            self._site = Site(self._folder / "site", POLICY_SECONDS)
            made.callback(self._site.close)
            self._server = Server(self._folder, self._site)
            made.callback(self._server.close)
            self._images = Images(self._server.stage / "points")
            self._server.protected.start()
            self._server.protected.wait_mode("delta", 300)
            self._say(f"{self._elapsed()}  replicated; the log goes on")
            while self._goes_on:
                self._block()

    def _block(self) -> None:
        """Make some points with freezing, some of them with a picture; then some without."""
        verdict = self.verdict
        until, turn = verdict.points_frozen + BLOCK - UNFROZEN, 0
        while verdict.points_frozen < until and self._goes_on:
            if turn % BARRIER_EVERY == 0:
                self._pictured_point()
            self._look_at_next_point()
            turn += 1
        until = verdict.points_unfrozen + UNFROZEN
        self._server.freezing(on=False)
        while verdict.points_unfrozen < until and self._goes_on:
            self._look_at_next_point()
        self._server.freezing(on=True)

    @property
    def _goes_on(self) -> bool:
        return self.verdict.points < self._wanted and self.verdict.passed

    def _pictured_point(self) -> None:
        """Ask for a point with a barrier, and take the oracle's picture while the server stands still."""
        cut = self._site.request_cut(barrier=True)
        ends = time.monotonic() + CUT_SECONDS
        while self._site.cut(cut)["state"] not in ("frozen", *ENDED) and time.monotonic() < ends:
            time.sleep(0.01)
        picture = self._server.stage / f"picture-{cut}"
        if self._site.cut(cut)["state"] == "frozen":
            self._server.picture(picture)
            with suppress(LifeboatError):  # too late: the agent says barrier-timeout
                self._site.release(cut)
        wait_for("the end of a cut", lambda: self._site.cut(cut)["state"] in ENDED, CUT_SECONDS)
        outcome = self._site.cut(cut)
        if outcome["state"] == "skipped":
            self._skipped(f"cut {cut}", outcome["reason"]["code"])
            shutil.rmtree(picture, ignore_errors=True)
        else:
            self._pictures[int(outcome["point"].rsplit("-", 1)[1])] = picture

    def _look_at_next_point(self) -> None:
        """Wait for a point that was not looked at yet, and look at it; the policy makes them no faster than that."""
        began = time.monotonic()
        while time.monotonic() < began + STALE_SECONDS:
            self._look_for_skips()
            new = [point for point in list_points(self._site.store, SERVER) if point.number > self._seen]
            if new:
                began = time.monotonic()
                self._look_at(new[-1])
                self._site.declare_points(max(POLICY_SECONDS, math.ceil(1.5 * (time.monotonic() - began))))
                return
            assert self._server.workload.running, "the workload ended"
            time.sleep(0.1)
        raise AssertionError(f"no point for {STALE_SECONDS:.0f} s: {self._server.protected.status()}")

    def _look_at(self, point: Manifest) -> None:
        verdict = self.verdict
        verdict.points += 1
        self._seen = point.number
        if point.frozen:
            verdict.points_frozen += 1
        else:
            verdict.points_unfrozen += 1
        try:
            mismatches = verify_point(self._site.store, point)
            digests = self._images.become(self._site.store, point)
        except LifeboatError as error:
            self._torn(point, error.message)
            return
        if mismatches:
            self._mismatch(point, str(mismatches[:3]))
        picture = self._pictures.pop(point.number, None)
        if picture is not None:
            self._compare(point, digests, picture)
        elif point.frozen:
            self._stalls.append(self._server.workload.stall(point.cut_time.isoformat(), point.freeze_ms))
        self._read_the_log(point)
        self._forget(point)
        if verdict.points % TOLD_EVERY == 0:
            self._tell()

    def _compare(self, point: Manifest, digests: dict[str, str], picture: Path) -> None:
        self.verdict.points_pictured += 1
        oracle = digests_of(picture, sorted(digests))
        different = [name for name in digests if digests[name] != oracle[name]]
        if different:
            self._mismatch(point, f"{different} differ from the picture")
        shutil.rmtree(picture)

    def _read_the_log(self, point: Manifest) -> None:
        try:
            logs = self._images.logs()
        except (ValueError, subprocess.CalledProcessError) as error:
            self._torn(point, str(error))
            return
        newest, wrong = out_of_order(logs)
        if newest < self._newest_record:
            wrong.append(f"ends with record {newest}, the point before had {self._newest_record}")
        self._newest_record = self.verdict.records = newest
        if wrong:
            self.verdict.order_violations += 1
            self.verdict.failures.append(f"{point.id}: {'; '.join(wrong)}")

    def _forget(self, point: Manifest) -> None:
        """Give back the memory of a point that was looked at."""
        for disk in point.disks:
            self._site.store.delete_snapshot("replicas", disk.blob, disk.snapshot)
            self._site.store.delete_snapshot("replicas", disk.digests_blob, disk.digests_snapshot)

    def _look_for_skips(self) -> None:
        last = self._server.protected.status().get("last_cut") or {}
        when = last.get("skipped_time")
        if when is not None and when not in self._skips:
            self._skips.add(when)
            self._skipped(when, last["reason"]["code"])

    def _skipped(self, what: str, code: str) -> None:
        self._say(f"{self._elapsed()}  skipped: {what}: {code}")
        self.verdict.points_skipped += 1
        self.verdict.skipped[code] = self.verdict.skipped.get(code, 0) + 1

    def _torn(self, point: Manifest, why: str) -> None:
        self.verdict.torn_points += 1
        self.verdict.failures.append(f"{point.id} is not whole: {why}")

    def _mismatch(self, point: Manifest, why: str) -> None:
        self.verdict.digest_mismatches += 1
        self.verdict.failures.append(f"{point.id}: {why}")

    # -- power -------------------------------------------------------------------------------------------------

    def _cut_power(self) -> None:
        cuts = PowerCuts(self._folder / "power", random.randrange(1 << 30))
        try:
            while cuts.cuts < self._power_cuts and not cuts.failures:
                cuts.run(min(self._power_cuts, cuts.cuts + BLOCK))
                self._say(f"{self._elapsed()}  {cuts.cuts} power cuts, {cuts.points} points")
        finally:
            cuts.close()
        verdict = self.verdict
        verdict.power_cuts = cuts.cuts
        verdict.torn_points += cuts.torn
        verdict.received_lost += cuts.lost
        verdict.failures += cuts.failures

    # -- words -------------------------------------------------------------------------------------------------

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._began:6.1f} s"

    def _tell(self) -> None:
        verdict = self.verdict
        made = f"{verdict.points} points: {verdict.points_frozen} frozen, {verdict.points_unfrozen} not"
        looked = (
            f"{verdict.points_pictured} with a picture, {verdict.points_skipped} skipped, {verdict.records} records"
        )
        self._say(f"{self._elapsed()}  {made}; {looked}")
