"""kill -9 of the agent and of its process server: what was read goes on, what was written is never lost."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import threading
import time
from pathlib import Path

import pytest

from tests.agent.protected import CHUNK, MIB, LoopDisk, Protected, fill, wait_for
from tests.agent.whole_site import Site

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]


class WriteOnce:
    """Writes every chunk of a disk exactly once, in random order, while something else happens.

    Writing once is what makes the test honest: a chunk that is missed is not covered by a later write.
    """

    def __init__(self, disk: LoopDisk, seconds: float) -> None:
        self._disk = disk
        self._pause = seconds / (disk.size // CHUNK)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        order = list(range(self._disk.size // CHUNK))
        random.Random(7).shuffle(order)
        descriptor = os.open(self._disk.device, os.O_WRONLY | os.O_DSYNC)
        for chunk in order:
            os.pwrite(descriptor, os.urandom(512), chunk * CHUNK + 512 * random.randrange(128))
            time.sleep(self._pause)
        os.close(descriptor)

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join()


def test_every_chunk_written_once_arrives(protected: Protected) -> None:
    disk = protected.disk("os", 128 * MIB)
    protected.start()
    protected.wait_drained()
    WriteOnce(disk, 5).join()
    protected.wait_drained()
    assert protected.differing_chunks() == []
    assert protected.status()["tracker"]["overruns"] == 0


def test_killed_during_deltas_nothing_is_lost_and_nothing_is_resynced(protected: Protected) -> None:
    disk = protected.disk("os", 256 * MIB)
    protected.start()
    protected.wait_drained()
    writer = WriteOnce(disk, 12)
    kills = 0
    while writer.running:
        time.sleep(random.uniform(0.1, 1.5))
        protected.kill()
        kills += 1
        protected.start()
    writer.join()
    protected.wait_drained(60)
    assert protected.differing_chunks() == []
    assert kills > 3
    assert "resync" not in protected.log.read_text()


def test_killed_in_the_middle_of_initial_replication_it_continues(protected: Protected, site: Site) -> None:
    disk = protected.disk("os", 256 * MIB)
    fill(disk, range(4096), "first")
    protected.start()
    half = 100 * MIB
    wait_for("a part of the disk", lambda: protected.status().get("initial_bytes_done", 0) > half, 60)
    protected.kill()
    done = protected.status()["initial_bytes_done"]
    fill(disk, range(0, 4096, 41), "meanwhile")
    protected.start()
    first = wait_for("status", lambda: protected.status() if protected.status()["initial_bytes_done"] else None)
    assert first["initial_bytes_done"] >= done
    protected.wait_drained(60)
    assert protected.differing_chunks() == []
    assert "resync" not in protected.log.read_text()
    # Sent once, apart from what was on its way at the kill and what was written meanwhile.
    assert protected.status()["sent_bytes"] < disk.size * 1.25


def test_the_process_server_restarts_and_the_delta_goes_on(protected: Protected, site: Site) -> None:
    disk = protected.disk("os", 128 * MIB)
    protected.start()
    protected.wait_drained()
    writer = WriteOnce(disk, 6)
    for _ in range(2):
        time.sleep(1)
        site.stop_process_server()
        time.sleep(0.5)
        site.start_process_server()
    writer.join()
    protected.wait_drained(60)
    assert protected.differing_chunks() == []
    assert "resync" not in protected.log.read_text()


def test_a_process_server_that_burns_with_its_spool_costs_a_resend(protected: Protected, site: Site) -> None:
    disk = protected.disk("os", 128 * MIB)
    protected.start()
    protected.wait_drained()
    site.store.script("D")  # the store is down from now on: what arrives stays in the spool
    fill(disk, range(0, 2000, 3), "lost with the spool")
    wait_for("received", lambda: protected.status()["pending_bytes"] == 0 and protected.status()["sequence"] > 1, 60)
    site.stop_process_server()
    shutil.rmtree(site.folder / "spool")
    site.store.heal()
    site.start_process_server()
    protected.wait_drained(60)
    assert protected.differing_chunks() == []
    assert "resync" not in protected.log.read_text()


def test_a_store_that_went_back_is_named_and_healed(protected: Protected, site: Site) -> None:
    disk = protected.disk("os", 64 * MIB)
    fill(disk, range(0, 1024, 5), "first")
    protected.start()
    protected.wait_drained()
    before = site.store.save()
    fill(disk, range(0, 1024, 7), "second")
    protected.wait_drained()
    site.store.rollback(before)
    fill(disk, range(3), "third")
    wait_for("the name of what happened", lambda: "store-went-back" in protected.log.read_text(), 60)
    protected.wait_drained(60)
    assert protected.differing_chunks() == []


def overrun_without_an_agent(protected: Protected, disk: LoopDisk) -> None:
    protected.start()
    protected.wait_drained()
    protected.kill()
    (Path("/sys/kernel/tracing/instances") / protected.instance / "buffer_size_kb").write_text("8")
    descriptor = os.open(disk.device, os.O_WRONLY | os.O_DSYNC)
    for chunk in range(1000):
        os.pwrite(descriptor, os.urandom(512), chunk * CHUNK)
    os.close(descriptor)


def test_an_overrun_while_no_agent_ran_is_found_in_the_maps(protected: Protected) -> None:
    overrun_without_an_agent(protected, protected.disk("os", 64 * MIB))
    protected.start()
    wait_for("the name of what happened", lambda: "lost are marked in the maps" in protected.log.read_text(), 60)
    protected.wait_drained(60)
    assert protected.differing_chunks() == []
    assert protected.status()["tracker"]["overruns"] == 0
    assert "resync" not in protected.log.read_text()


def test_an_overrun_is_named_and_healed(protected: Protected) -> None:
    overrun_without_an_agent(protected, protected.disk("os", 64 * MIB))
    shutil.rmtree(f"/sys/fs/bpf/{protected.instance}")
    protected.start()
    wait_for("the name of what happened", lambda: "resync: tracker-overrun" in protected.log.read_text(), 60)
    protected.wait_drained(60)
    assert protected.differing_chunks() == []
    assert protected.status()["tracker"]["overruns"] == 1


def test_a_tracing_instance_that_somebody_switched_off_is_named(protected: Protected) -> None:
    disk = protected.disk("os", 64 * MIB)
    protected.start()
    protected.wait_drained()
    folder = Path("/sys/kernel/tracing/instances") / protected.instance
    (folder / "tracing_on").write_text("0")
    fill(disk, range(0, 500), "unseen")
    wait_for("the name of what happened", lambda: "resync: tracker-lost" in protected.log.read_text(), 60)
    protected.wait_drained(60)
    assert protected.differing_chunks() == []


def test_other_hardware_is_a_copy_and_sends_nothing(protected: Protected, site: Site) -> None:
    protected.disk("os", 64 * MIB)
    hardware = {"product_uuid": "another", "disks": {"os": {"size_bytes": 64 * MIB, "serial": ""}}}
    protected.changes["hardware"] = hardware
    protected.start()
    status = protected.wait_mode("copy")
    assert status["reason"]["code"] == "copy"
    assert not Path("/sys/kernel/tracing/instances", protected.instance).exists()
    assert protected.stop() == 0
    assert list(site.store.list("replicas", "")) == []


def test_a_raised_protection_epoch_fences(protected: Protected, site: Site) -> None:
    disk = protected.disk("os", 64 * MIB)
    protected.start()
    protected.wait_drained()
    site.raise_protection_epoch()
    assert protected.wait_mode("fenced")["reason"]["code"] == "fenced"
    sent = protected.status()["sequence"]
    fill(disk, range(100), "after")
    wait_for("tracking goes on", lambda: protected.status()["pending_bytes"] >= 100 * CHUNK, 30)
    assert protected.status()["sequence"] == sent


def test_cleanup_leaves_nothing(protected: Protected) -> None:
    protected.disk("os", 16 * MIB)
    protected.start()
    protected.wait_drained()
    assert protected.stop() == 0
    command = ["python3", "-m", "agent", "cleanup", "--config", str(protected.folder / "agent.json")]
    subprocess.run(command, check=True, cwd=Path(__file__).resolve().parents[2])
    assert not Path("/sys/kernel/tracing/instances", protected.instance).exists()
    assert not Path("/sys/fs/bpf", protected.instance).exists()
    assert not protected.run_folder.exists()
    assert not (protected.folder / "cache").exists()


def test_an_agent_that_cannot_start_says_why(protected: Protected, site: Site) -> None:
    protected.disk("os", 64 * MIB)
    protected.changes["tracefs"] = str(protected.folder / "no-tracing")
    protected.start()
    reason = protected.wait_mode("stopped")["reason"]
    assert (reason["code"], bool(reason["remedy"])) == ("tracefs-missing", True)
    wait_for("the configuration server knows", lambda: "tracefs-missing" in json.dumps(site.heard()), 10)
    assert '"mode": "stopped"' in json.dumps(site.heard())
    assert protected.process is not None
    assert protected.process.wait(10) != 0
