"""The machine that plays the physical server: of its own, pictured at one instant, and gone when it is killed."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tools.machines import saved
from tools.machines.image import build_instance
from tools.machines.source import SHOP, SSH, SourceMachine, wait_for
from tools.setup.paths import CHECKOUT, Cache


def shop(machine: SourceMachine, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{machine.port(SHOP)}{path}", timeout=30) as answer:
        return str(answer.read().decode())


def state(machine: SourceMachine, upto: int | None = None) -> Any:
    wait_for("the shop", lambda: bool(shop(machine, "/")), timeout_seconds=120)
    return json.loads(shop(machine, "/state" + (f"?upto={upto}" if upto else "")))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def assert_gone(machine: SourceMachine, pid: int | None) -> None:
    assert pid is not None
    assert not Path(f"/proc/{pid}").exists()
    assert not (machine.folder / "qmp").exists()


@pytest.mark.real
def test_each_instance_has_an_identity_of_its_own(tmp_path: Path) -> None:
    one = build_instance(tmp_path / "one.raw", name="one", authorized_key="ssh-ed25519 AAAA one")
    two = build_instance(tmp_path / "two.raw", name="two", authorized_key="ssh-ed25519 AAAA two")
    assert one.host_key != two.host_key
    assert one.machine_id != two.machine_id
    assert one.size_bytes == two.size_bytes == 2 << 30
    assert {p.name for p in tmp_path.iterdir()} == {"one.raw", "two.raw"}  # no scratch with keys is left


@pytest.mark.vm
def test_a_frozen_picture_boots_with_every_order_in_it(tmp_path: Path) -> None:
    with SourceMachine.create(tmp_path / "source", name="shop1") as source:
        source.start()
        source.wait_ssh()
        pid = source.pid
        assert source.run("sudo id -u").strip() == "0"
        assert source.run("hostname").strip() == "shop1"
        assert source.run(f"test -b {source.identity.disk_device} && sudo systemctl is-active shop").strip() == "active"
        assert source.run("sudo cat /sys/class/dmi/id/product_uuid").strip() == source.identity.smbios_uuid
        known = state(source)
        assert known["orders"] > 0
        source.run("sync")
        picture = source.freeze_copy(tmp_path / "picture.raw")
        pictured = sha256(picture)
        wait_for("more orders", lambda: state(source)["orders"] > known["orders"] + 5, timeout_seconds=60)
        later = source.freeze_copy(tmp_path / "later.raw")  # a second picture stands on its own
        assert later.stat().st_size == picture.stat().st_size == source.disk_bytes
        assert sha256(later) != pictured
        source.kill()
    assert_gone(source, pid)

    with SourceMachine.from_picture(tmp_path / "copy", picture, source) as copy:
        copy.start()
        copy.wait_ssh()  # the pinned host key is the source's: the disk brought it along
        assert copy.run("sudo cat /sys/class/dmi/id/product_uuid").strip() != source.identity.smbios_uuid
        now = state(copy)
        assert now["integrity"] == "ok"
        assert state(copy, upto=known["orders"])["chain"] == known["chain"]
    assert sha256(picture) == pictured


@pytest.mark.real
def test_a_machine_does_not_outlive_whoever_started_it(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; from pathlib import Path; from tools.machines.source import SourceMachine\n"
        "machine = SourceMachine.create(Path(sys.argv[1]), name='orphan'); machine.start()\n"
        "print(machine.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    output = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout
    pid = int(output)
    wait_for("the end of the machine", lambda: not Path(f"/proc/{pid}").exists(), timeout_seconds=10)


@pytest.mark.vm
def test_the_same_disk_boots_under_uefi(tmp_path: Path) -> None:
    with SourceMachine.create(tmp_path / "source", name="shop1", firmware="uefi") as source:
        source.start()
        source.wait_ssh(timeout_seconds=600)
        assert source.run("test -d /sys/firmware/efi && echo uefi").strip() == "uefi"
        assert state(source)["integrity"] == "ok"


@pytest.mark.vm
def test_a_saved_machine_resumes_and_survives_a_power_loss(tmp_path: Path) -> None:
    base = saved.saved_machine(Cache.from_environment()) / "disk.raw"
    before = base.stat().st_mtime_ns
    with saved.resume(tmp_path / "source") as source, saved.resume(tmp_path / "other") as other:
        assert source.port(SSH) != other.port(SSH)
        known = state(source)
        assert known["integrity"] == state(other)["integrity"] == "ok"
        assert abs(float(source.run("date +%s")) - float(other.run("date +%s"))) < 30
        other.kill()
        source.kill()
        source.start()
        source.wait_ssh()
        now = state(source)
        assert now["integrity"] == "ok"
        assert state(source, upto=known["orders"])["chain"] == known["chain"]
    assert base.stat().st_mtime_ns == before
