"""The installation on a real machine with its own systemd, kernel and sudo."""

from __future__ import annotations

import json
import shlex
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from dr.certificates.site import SiteCertificates
from dr.compile.blueprint import DiskBlueprint, ProtectionBlueprint
from dr.errors import Refused
from dr.model import Ssh
from dr.push import layout
from dr.push.connection import connect
from dr.push.exposures import EXPOSURES, SCORE
from dr.push.facts import gather
from dr.push.install import Installed, inspect, install, remove
from dr.push.package import build_package
from tests.push.enrolled import enrol
from tests.push.rig import free_port
from tools.machines.source import SSH, SourceMachine, wait_for
from tools.machines.traces import traces


def declaration(machine: SourceMachine) -> ProtectionBlueprint:
    return ProtectionBlueprint(
        server="shop1",
        ssh=Ssh("127.0.0.1", machine.port(SSH), "dradmin", str(machine.key_file), None, machine.host_key),
        disks=(DiskBlueprint("os", machine.identity.disk_device, "shop1/os.vhd", "shop1/os.digests"),),
        process_servers=(f"10.0.2.2:{free_port()}",),
        configuration_server=f"10.0.2.2:{free_port()}",
        crash_consistent_seconds=300,
        rpo_threshold_seconds=3600,
        retention_seconds=86400,
        firmware="bios",
    )


def put(server: ProtectionBlueprint, certificates: SiteCertificates, package: Path) -> Installed:
    return install(server, site="harbour", certificates=certificates, package=package, protection_epoch=1)


@pytest.mark.vm
@pytest.mark.timeout(1800)
def test_install_work_update_and_remove_on_a_real_machine(tmp_path: Path, certificates: SiteCertificates) -> None:
    package = tmp_path / "agent.pyz"
    with zipfile.ZipFile(package, "w") as archive:
        archive.write(Path(__file__).parent / "exercise.py", "__main__.py")
    with SourceMachine.create(tmp_path / "shop1", name="shop1") as machine:
        machine.start()
        machine.wait_ssh(timeout_seconds=600)
        server = declaration(machine)

        with connect(server) as connection:
            facts = gather(connection, server)
        assert facts.privilege == "sudo"
        assert facts.trace.event
        assert facts.product_uuid == machine.identity.smbios_uuid
        assert (facts.disks["os"].serial, facts.disks["os"].kind) == (machine.identity.disk_serial, "disk")
        assert facts.disks["os"].size_bytes == machine.disk_bytes

        before = traces(machine)
        assert blocked(server, facts.whole_disks[0].by_id, certificates, package) == (
            "shop1: the agent cannot be installed, nothing was changed. These 3 stand against it:\n"
            "  disk-missing: gone: /dev/disk/by-id/none is not there\n"
            f"      remedy: declare one of its disks: {machine.identity.disk_device} (2 GiB)\n"
            "  disk-not-whole: part: /dev/vda3 is a partition\n"
            "      remedy: declare the whole disk, /dev/vda\n"
            "  firmware-differs: declared is uefi, the server boots by bios\n"
            "      remedy: correct target.firmware"
        )
        assert traces(machine) ^ before == set()
        put(server, certificates, package)
        enrol(lambda script: machine.run(f"sudo sh -c {shlex.quote(script)}"), certificates)
        wait_for("the report", lambda: _report(machine) is not None, timeout_seconds=60)
        assert set((_report(machine) or {}).values()) == {"ok"}, _report(machine)
        assert put(server, certificates, package).changed == ()

        machine.run("sudo systemctl kill -s KILL --kill-who=main lifeboat-agent")
        wait_for("the restart", lambda: _read(machine, "starts") == "xx", timeout_seconds=60)
        assert _read(machine, "outlived") == "yes", "the watchdog was killed with the agent"

        with zipfile.ZipFile(package, "a") as archive:
            archive.writestr("another", "byte")
        put(server, certificates, package)
        wait_for("the update's start", lambda: _read(machine, "starts") == "xxx", timeout_seconds=60)

        real = tmp_path / "real.pyz"
        build_package(real)
        updated = put(server, certificates, real)
        assert updated.problems == ()
        wait_for("the tracker", lambda: _traces(machine), timeout_seconds=120)
        again = put(server, certificates, real)
        assert (again.changed, again.problems) == ((), ()), machine.run("sudo journalctl -u lifeboat-agent -n 30")

        seen = json.loads(machine.run("systemd-analyze security lifeboat-agent --no-pager --json=short"))
        assert {each["name"] for each in seen if each["set"] is False} == set(EXPOSURES)
        assert f": {SCORE} OK" in machine.run("systemd-analyze security lifeboat-agent --no-pager | tail -n 2")
        told = machine.run(f"sudo journalctl -t {layout.JOURNAL_TAG} -o cat --no-pager").splitlines()
        assert told[:1] == ["folder /usr/local/lib/lifeboat"]
        assert "start of the agent" in told

        assert remove(server)
        assert inspect(server, certificates=certificates) is None
        assert traces(machine) ^ before == set()


def blocked(server: ProtectionBlueprint, stable: str, certificates: SiteCertificates, package: Path) -> str:
    """Return the message for a declaration of the same server that is wrong in three ways."""
    os = server.disks[0]
    disks = (replace(os, device=stable), replace(os, name="gone", device="/dev/disk/by-id/none"))
    wrong = replace(server, firmware="uefi", disks=(*disks, replace(os, name="part", device="/dev/vda3")))
    with pytest.raises(Refused) as caught:
        install(wrong, site="harbour", certificates=certificates, package=package, protection_epoch=1)
    return caught.value.message


def _traces(machine: SourceMachine) -> bool:
    """Whether the real agent made both witnesses and its map under the unit's hardening."""
    ring = "/sys/kernel/tracing/instances/lifeboat/events/block/block_rq_complete/enable"
    pinned = "/sys/fs/bpf/lifeboat/link"
    both = "grep -q ring+maps /run/lifeboat/status.json"
    script = f"sudo grep -q 1 {ring} && sudo test -e {pinned} && sudo {both} && sudo test -s /run/lifeboat/os.map"
    return machine.ssh(script).status == 0


def _read(machine: SourceMachine, name: str) -> str:
    return machine.ssh(f"sudo cat /run/lifeboat/{name}").stdout


def _report(machine: SourceMachine) -> dict[str, str] | None:
    text = _read(machine, "report.json")
    return json.loads(text) if text else None
