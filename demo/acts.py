"""The acts of the demo, in order: declare, protect, work, cut, burn, fail over, compare, clean up."""

from __future__ import annotations

import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from demo import compare, tamper
from demo.protected import ProtectedServer
from demo.stage import CommandFailed, Stage
from demo.story import Story
from tools.machines.source import SourceMachine

SERVER = "shop1"
PLAN = "shop"
SHOP_PORT = 8080
STACKS = ("vault-local", "site-local", f"failover-{PLAN}-local")


class Demo:
    """One run; `play` returns the figures of the last line."""

    def __init__(self, stage: Stage, story: Story, *, tamper: bool, leak: bool) -> None:
        self.stage, self.story = stage, story
        self._tamper, self._leak = tamper, leak
        self._source: SourceMachine | None = None
        self._figures: dict[str, Any] = {}

    def play(self) -> dict[str, Any]:
        """Play all acts and return the figures."""
        source = self._raise_the_curtain()
        planted = tamper.plant(source) if self._tamper else b""
        self._protect(source)
        self._initial_replication()
        picture, known, point = self._cut(source)
        self._burn(source)
        if self._tamper:
            where = tamper.flip_one_bit(self.stage.local / "cloud" / "azurite", planted)
            self.story.say(f"TAMPER: one bit of the stored point was flipped, {where}")
        self._fail_over(point)
        self._compare(picture, known)
        return self._figures

    def _raise_the_curtain(self) -> SourceMachine:
        self.story.chapter("A server at work")
        self.stage.fresh_checkout()
        with self.story.step("booting the server: a Debian 12 with its own disk, kernel, boot loader and sshd"):
            source = SourceMachine.create(self.stage.source, name=SERVER)
            self._source = source
            source.start()
            source.wait_ssh()
        self._figures["disk_bytes"] = source.disk_bytes
        self._wait_for_shop("127.0.0.1", source.port(SHOP_PORT))
        state = compare.shop_state("127.0.0.1", source.port(SHOP_PORT))
        self.story.say(f"its shop serves a page and takes orders all the time; so far {state.orders}")
        return source

    def _protect(self, source: SourceMachine) -> None:
        self.story.chapter("Declared, compiled, made true")
        self._server = ProtectedServer(self.stage, source, SERVER)
        self._server.declare()
        self.story.say(self.stage.dr("validate").strip())
        with self.story.step("dr local up"):
            self.stage.dr("local", "up")
        self._keep_the_secret()
        for stack in STACKS[:2]:
            with self.story.step(f"pulumi up -s {stack}"):
                made = self.stage.pulumi_up(stack)
            self.story.say(f"  {made} resources made")
        changed = sum(self.stage.pulumi_up(stack) for stack in STACKS[:2])
        self.story.say(f"a second `pulumi up` of both changed {changed}")
        self._figures["second_up_changes"] = changed

    def _keep_the_secret(self) -> None:
        """What the operator carries away: the passphrase, and nothing else."""
        envelope = self.stage.local / "envelope" / "break-glass"
        self.stage.break_glass.parent.mkdir(mode=0o700)
        shutil.copy2(envelope, self.stage.break_glass)

    def _initial_replication(self) -> None:
        self.story.chapter("Replication")
        told = -1.0

        def look(agent: dict[str, Any]) -> None:
            nonlocal told
            done, total = agent.get("initial_bytes_done") or 0, agent.get("initial_bytes_total") or 0
            if total and done / total >= told + 0.2:
                told = done / total
                self.story.say(f"initial replication {told:4.0%}, while the shop works")

        agent = self._server.wait_for_delta(look)
        total, sent = agent["initial_bytes_total"], agent["sent_bytes"]
        self.story.say(f"the replica is complete: {total >> 20} MiB of disk, {sent >> 20} MiB sent")

    def _cut(self, source: SourceMachine) -> tuple[Path, compare.ShopState, str]:
        """Ask for a recovery point, and take our own picture of the disk while the server is frozen."""
        self.story.chapter("A recovery point, and a picture of the same instant taken by somebody else")
        known = compare.shop_state("127.0.0.1", source.port(SHOP_PORT))
        picture = self.stage.folder / "picture.raw"
        point = self._server.pictured_point([picture], self.story.say)
        self.story.say(f"recovery point {point}; the frozen disk was pictured from outside")
        return picture, known, point

    def _burn(self, source: SourceMachine) -> None:
        self.story.chapter("The site burns")
        self._figures["sent_bytes"] = self._server.agent()["sent_bytes"]
        self._burnt_at = time.time()
        source.kill()
        for process in self._server.site_processes():
            process.send_signal(signal.SIGKILL)
            with suppress(psutil.TimeoutExpired):
                process.wait(10)
        for lost in (self.stage.local / "site", self.stage.local / "envelope", self.stage.source, self.stage.checkout):
            shutil.rmtree(lost)
        self.story.say("gone: the server, its disk, configuration and process server, their keys, the checkout")
        self.story.say("left: the git repository, the vault, and one break-glass secret")

    def _fail_over(self, point: str) -> None:
        self.story.chapter("Failover")
        self._start_over()
        points = self.stage.dr_json("points", SERVER)["points"]
        self.story.say(f"dr points {SERVER}: {len(points)} in the vault, the newest is {points[0]['id']}")
        with self.story.step(f"dr failover {PLAN}"):
            self._answer = self.stage.dr_json("failover", PLAN, "--yes", timeout=900)
        server = self._answer["servers"][0]
        self.story.say(f"{server['vm']} runs at {server['address']} from {server['point']}")
        if server["point"] != point and not self._tamper:
            self.story.say(f"(a newer point than the pictured one, {point}, was found)")
        with self.story.step(f"pulumi up -s {STACKS[2]}, a second time"):
            self._figures["second_up_changes"] += self.stage.pulumi_up(STACKS[2])
        self._figures["rpo_seconds"] = self._answer["rpo_seconds"]
        self._figures["rto_seconds"] = self._answer["rto_seconds"]

    def _compare(self, picture: Path, known: compare.ShopState) -> None:
        self.story.chapter("The same server?")
        server = self._answer["servers"][0]
        host, port = server["endpoints"][str(SHOP_PORT)].rsplit(":", 1)
        size = self._figures["disk_bytes"]
        imported = next((self.stage.local / "cloud" / "disks").glob(f"*{SERVER}*/base.raw"))
        with self.story.step("hashing the picture and the imported disk"):
            disk_equal = compare.disk_digest(picture, size) == compare.disk_digest(imported, size)
        self.story.say("disks are equal, byte by byte" if disk_equal else "DISKS DIFFER")
        now = compare.shop_state(host, int(port))
        then = compare.shop_state(host, int(port), upto=known.orders)
        page_equal = now.integrity == "ok" and then.chain == known.chain and now.orders >= known.orders
        page_equal = page_equal and "orders" in compare.shop_page(host, int(port))
        self.story.say(
            f"the page is served; all {known.orders} orders known before the cut are there and unchanged"
            if page_equal
            else f"PAGE DIFFERS: {known} before, {then} and {now} after"
        )
        self._figures["verified"] = disk_equal and page_equal

    def _start_over(self) -> None:
        """Stand where someone stands after the fire: a fresh checkout and the break-glass secret."""
        self.stage.fresh_checkout()
        self.stage.load_environment({"PULUMI_CONFIG_PASSPHRASE_FILE": str(self.stage.break_glass)})

    def _wait_for_shop(self, host: str, port: int) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with suppress(OSError):
                if compare.shop_state(host, port).orders:
                    return
            time.sleep(0.5)
        raise CommandFailed("the shop did not open")

    def clean_up(self) -> None:
        """Take everything down, the way a person would; LEAK=1 leaves one VM."""
        self.story.chapter("Cleaning up")
        if self._source is not None:
            self._source.kill()
        if self.stage.environment:
            if not self.stage.checkout.exists():  # it broke off right after the fire
                self._start_over()
            for stack in (STACKS[2],) if not self._leak else ():
                with suppress(CommandFailed), self.story.step(f"pulumi destroy -s {stack}"):
                    self.stage.run("pulumi", "destroy", "--yes", "--stack", stack)
            with suppress(CommandFailed), self.story.step("dr local down"):
                self.stage.dr("local", "down")
