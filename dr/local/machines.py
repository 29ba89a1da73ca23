"""Virtual machines of the local target: one QEMU process each, in `cloud/vms/NAME`.

    vm.json       id, pid, start time, uuid, address, forwarded ports, and the specification it was started from
    console.log   everything the machine wrote to its serial console, over all its starts
    qmp           QEMU's monitor (a unix socket; its path may be longer than the kernel allows, see `monitor`)
    vars.fd       UEFI variables of a Generation 2 machine

Rules:
- A machine outlives the process that started it. Only the process of its pid *and* start time is ever ended.
- Its network is its own and leads nowhere (`restrict=on`): it gets the declared address by DHCP inside the declared
  subnet, and only the security group's inbound TCP ports are forwarded, from free ports on the loopback.
"""

from __future__ import annotations

import ipaddress
import json
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dr.durable import write_durably
from dr.errors import PrerequisiteMissing, RunFailed
from dr.local.accelerator import QEMU, Accelerator
from dr.local.monitor import Monitor, MonitorFailed
from dr.local.processes import ProcessIdentity, start_daemon, tail
from dr.local.tools import program

FIRMWARE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
FIRMWARE_VARIABLES = "/usr/share/OVMF/OVMF_VARS_4M.fd"
START_SECONDS = 30.0
PORT_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class MachineSpec:
    """What is started: the first of `disks` is the one it boots from; `ports` are guest ports let in."""

    id: str  # ARM id
    name: str
    uuid: str
    cpus: int
    memory_mib: int
    uefi: bool
    disks: tuple[str, ...]  # paths of qcow2 files
    mac: str
    address: str
    subnet: str  # prefix
    ports: tuple[int, ...]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> MachineSpec:
        return cls(**{**values, "disks": tuple(values["disks"]), "ports": tuple(values["ports"])})


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that was started; `ports` maps guest ports to ports of the loopback."""

    folder: Path
    spec: MachineSpec
    identity: ProcessIdentity
    ports: Mapping[int, int]

    @property
    def console(self) -> Path:
        return self.folder / "console.log"

    def alive(self) -> bool:
        return self.identity.alive()

    def save(self) -> None:
        content = {
            "target": "LOCAL",
            "id": self.spec.id,
            **self.identity.as_dict(),
            "uuid": self.spec.uuid,
            "address": self.spec.address,
            "ports": {str(guest): host for guest, host in sorted(self.ports.items())},
            "spec": asdict(self.spec),
        }
        write_durably(self.folder / "vm.json", json.dumps(content, indent=1).encode())

    def stop(self, *, powerdown_seconds: float = 0.0) -> None:
        """End the machine; with `powerdown_seconds` the guest is asked first, like a person at the power button."""
        if not self.alive():
            return
        try:
            with Monitor(self.folder) as monitor:
                if powerdown_seconds:
                    monitor.execute("system_powerdown")
                    if self.identity.gone_within(powerdown_seconds):
                        return
                monitor.execute("quit")
        except MonitorFailed:
            # A monitor that does not answer, or closed while QEMU ends: the signal below is the fallback.
            pass
        if not self.identity.gone_within(10.0):
            self.identity.end()

    def change_ports(self, ports: Sequence[int]) -> Machine:
        """Forward exactly `ports` from now on, keeping the host ports of those that stay."""
        keep = {guest: host for guest, host in self.ports.items() if guest in ports}
        added = {guest: _free_port() for guest in ports if guest not in keep}
        with Monitor(self.folder) as monitor:
            for guest, host in self.ports.items():
                if guest not in keep:
                    monitor.command_line(f"hostfwd_remove n0 tcp:127.0.0.1:{host}")
            for guest, host in added.items():
                monitor.command_line(f"hostfwd_add n0 tcp:127.0.0.1:{host}-{self.spec.address}:{guest}")
        changed = replace(self, ports={**keep, **added}, spec=replace(self.spec, ports=tuple(ports)))
        changed.save()
        return changed


def load(folder: Path) -> Machine | None:
    """Return the machine of a folder, running or not; None when none was started there."""
    try:
        values = json.loads((folder / "vm.json").read_text())
    except FileNotFoundError:
        return None
    ports = {int(guest): int(host) for guest, host in values["ports"].items()}
    return Machine(folder, MachineSpec.from_dict(values["spec"]), ProcessIdentity.from_dict(values), ports)


def end_unrecorded(folder: Path) -> None:
    """End a machine that was started in `folder` by a process that died before it could write vm.json."""
    if (folder / "vm.json").exists() or not (folder / "qmp").exists():
        return
    try:
        with Monitor(folder) as monitor:
            monitor.execute("quit")
    except MonitorFailed:
        # Nobody listens at the socket: there is no such machine.
        return


def machines(folder: Path) -> Iterator[Machine]:
    """Yield every machine below the folder of all machines."""
    for path in sorted(folder.glob("*/vm.json")):
        machine = load(path.parent)
        if machine is not None:
            yield machine


def start(folder: Path, spec: MachineSpec, accelerator: Accelerator) -> Machine:
    """Start a machine in `folder` and return it when its processor runs. `RunFailed` with QEMU's last words."""
    for one in (folder.parent, folder):
        one.mkdir(mode=0o700, parents=True, exist_ok=True)
    if spec.uefi:
        _lay_out_variables(folder)
    for attempt in range(PORT_ATTEMPTS):
        ports = {guest: _free_port() for guest in spec.ports}
        log = folder / "qemu.log"
        log.unlink(missing_ok=True)
        (folder / "qmp").unlink(missing_ok=True)
        identity = start_daemon(_command(spec, ports, accelerator), folder=folder, log=log)
        machine = Machine(folder, spec, identity, ports)
        machine.save()
        if _runs(machine):
            return machine
        words = tail(log)
        # Another program took a free port before QEMU bound it.
        if "host forwarding" not in words or attempt == PORT_ATTEMPTS - 1:
            machine.stop()
            raise RunFailed(f'QEMU did not start "{spec.name}": {words or "it said nothing"}', code="vm-not-started")
    raise AssertionError("the loop returns or raises")


def _runs(machine: Machine) -> bool:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and machine.alive():
        try:
            with Monitor(machine.folder) as monitor:
                status: str = monitor.execute("query-status")["status"]
        except MonitorFailed:
            time.sleep(0.1)
            continue
        return status == "running"
    return False


def _command(spec: MachineSpec, ports: Mapping[int, int], accelerator: Accelerator) -> list[str]:
    machine = "q35,pflash0=firmware,pflash1=variables" if spec.uefi else "q35"
    command = [
        *(program(QEMU), "-name", spec.name, "-machine", machine, *accelerator.arguments),
        *("-smp", str(spec.cpus), "-m", str(spec.memory_mib)),
        *("-uuid", spec.uuid, "-smbios", f"type=1,uuid={spec.uuid},manufacturer=Lifeboat,product=LOCAL"),
        *("-nodefaults", "-no-user-config", "-display", "none"),
        *("-chardev", "file,id=console,path=console.log,append=on", "-serial", "chardev:console"),
        # A relative path, because QEMU runs in the machine's folder and the kernel allows 107 bytes only.
        *("-qmp", "unix:qmp,server=on,wait=off"),
        *("-device", "virtio-rng-pci"),
    ]
    if spec.uefi:
        command += _flash("firmware", FIRMWARE, read_only=True) + _flash("variables", "vars.fd", read_only=False)
    for number, disk in enumerate(spec.disks):
        node = {"driver": "qcow2", "node-name": f"d{number}", "discard": "unmap"}
        file = {"driver": "file", "filename": disk, "discard": "unmap"}
        command += ["-blockdev", json.dumps({**node, "file": file})]
        command += ["-device", f"virtio-blk-pci,drive=d{number},bootindex={number}"]
    command += ["-netdev", _network(spec, ports), "-device", f"virtio-net-pci,netdev=n0,mac={spec.mac},romfile="]
    return command


def _network(spec: MachineSpec, ports: Mapping[int, int]) -> str:
    """Return the user network: Azure's reserved addresses (.1 gateway, .3 DNS) stay what they are there."""
    subnet = ipaddress.ip_network(spec.subnet)
    forwards = "".join(f",hostfwd=tcp:127.0.0.1:{host}-{spec.address}:{guest}" for guest, host in ports.items())
    return (
        f"user,id=n0,restrict=on,ipv6=off,net={subnet},host={subnet[1]},dns={subnet[3]},"
        f"dhcpstart={spec.address}{forwards}"
    )


def _flash(node: str, path: str, *, read_only: bool) -> list[str]:
    file = {"driver": "file", "filename": path, "read-only": read_only}
    return ["-blockdev", json.dumps({"driver": "raw", "node-name": node, "read-only": read_only, "file": file})]


def _lay_out_variables(folder: Path) -> None:
    variables = folder / "vars.fd"
    if not Path(FIRMWARE).exists():
        raise PrerequisiteMissing("the UEFI firmware (package ovmf) is not on this machine", remedy="run `make setup`")
    if not variables.exists():
        shutil.copyfile(FIRMWARE_VARIABLES, variables)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
