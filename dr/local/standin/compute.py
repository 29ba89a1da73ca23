"""Virtual machines: a QEMU process that boots from the attached disk.

Deleting one ends the process at once, as Azure does; what happens to disks and network interface says each
reference's deleteOption. A machine whose process is gone (killed by hand, host restarted) counts as deleted.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dr.errors import LifeboatError
from dr.local.accelerator import accelerator
from dr.local.machines import Machine, MachineSpec, end_unrecorded, load, start
from dr.local.sizes import capacity
from dr.local.standin.attachment import MACHINE_TYPE, attached_machine, running, used_by
from dr.local.standin.disks import OVERLAY, Disk
from dr.local.standin.kinds import Cloud, Kind, Values, Voice, azure_error, existing, same_location
from dr.local.standin.network import NetworkInterface, Subnet, address_of, ports_into, prefix_of, subnet_of
from dr.local.standin.records import Record
from dr.local.standin.reservations import refuse_machine
from dr.plugin.failures import PartlyCreated
from dr.plugin.values import wrap_all

SETTLE_SECONDS = 1.0
POWERDOWN_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Parts:
    """What a VM refers to."""

    os_disk: Record
    data_disks: tuple[Record, ...]
    nic: Record
    subnet: Record


class VirtualMachine(Kind):
    resource_type = MACHINE_TYPE
    arm_type = "Microsoft.Compute/virtualMachines"
    path = "/resourceGroups/{resourceGroupName}/providers/Microsoft.Compute/virtualMachines/{vmName}"
    name_input = "vmName"
    name_pattern = r"[A-Za-z0-9]([A-Za-z0-9-]{0,62}[A-Za-z0-9])?"

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        for other in cloud.records.all(self.resource_type):
            if (
                other.name == inputs["vmName"]
                and other.id.lower() != resource_id.lower()
                and not self.gone(cloud, other)
            ):
                raise azure_error("NotRealised", f"the local target keeps VMs by their name, and {other.id} has it")
        _refuse_profile(inputs)
        capacity(str((inputs.get("hardwareProfile") or {}).get("vmSize", "")))
        parts = _parts(cloud, resource_id, inputs)
        location = str(inputs.get("location", ""))
        refuse_machine(cloud, resource_id, inputs)
        for disk in (parts.os_disk, *parts.data_disks):
            if (disk.inputs.get("zones") or None) != (inputs.get("zones") or None):
                raise azure_error("BadRequest", f"{disk.id} and {resource_id} are not in the same availability zone")
        for part in (parts.os_disk, *parts.data_disks, parts.nic):
            same_location(part, location, resource_id)
            holder = attached_machine(cloud, part.id)
            if holder is not None and holder.id.lower() != resource_id.lower():
                code = "NicInUse" if part is parts.nic else "AttachDiskWhileBeingAttached"
                raise azure_error(code, f"{part.id} is already used by {holder.id}")

    def create(self, cloud: Cloud, record: Record, voice: Voice) -> dict[str, Any]:
        folder = self._folder(cloud, record)
        # A machine of this id whose process is gone was deleted by hand; its folder is all that is left.
        self._stop(cloud, record)
        shutil.rmtree(folder, ignore_errors=True)
        machine_id = str(uuid.uuid4())
        voice.status("booting")
        try:
            machine = start(folder, self._spec(cloud, record, record.inputs, machine_id, voice), accelerator())
        except BaseException:
            self._stop(cloud, record)
            shutil.rmtree(folder, ignore_errors=True)
            raise
        outputs = {
            **self.outputs(record),
            "vmId": machine_id,
            "timeCreated": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        _refuse_dead(record, outputs, machine)
        return outputs

    def refuse_update(self, cloud: Cloud, record: Record, inputs: Values) -> None:
        _refuse_profile(inputs)
        capacity(str((inputs.get("hardwareProfile") or {}).get("vmSize", "")))
        if set(used_by(inputs)) != set(used_by(record.inputs)):
            raise azure_error(
                "PropertyChangeNotAllowed",
                f"disks and network interfaces of {record.name} cannot be exchanged while it exists",
                remedy="replace the VM (the program can say so by replace_with)",
            )

    def update(self, cloud: Cloud, record: Record, inputs: Values, voice: Voice) -> dict[str, Any]:
        outputs = {**super().update(cloud, record, inputs, voice)}
        machine = running(cloud, record)
        resized = inputs.get("hardwareProfile") != record.inputs.get("hardwareProfile")
        if machine is not None and not resized:
            return outputs
        if machine is not None:
            voice.status("shutting down to change the size")
            machine.stop(powerdown_seconds=POWERDOWN_SECONDS)
        voice.status("booting")
        machine_id = str(record.outputs.get("vmId") or uuid.uuid4())
        spec = self._spec(cloud, record, inputs, machine_id, voice)
        machine = start(self._folder(cloud, record), spec, accelerator())
        outputs["vmId"] = machine_id
        _refuse_dead(record, outputs, machine)
        return outputs

    def delete(self, cloud: Cloud, record: Record, voice: Voice) -> None:
        self._stop(cloud, record)
        shutil.rmtree(self._folder(cloud, record), ignore_errors=True)
        for part_id, kind in _deleted_with(record.inputs):
            part = cloud.records.find(part_id)
            if part is not None:
                kind.delete(cloud, part, voice)
                cloud.records.remove(part.id)

    def gone(self, cloud: Cloud, record: Record) -> bool:
        return running(cloud, record) is None

    def _folder(self, cloud: Cloud, record: Record) -> Path:
        return cloud.folders.machines / record.name

    def _stop(self, cloud: Cloud, record: Record) -> None:
        end_unrecorded(self._folder(cloud, record))
        machine = load(self._folder(cloud, record))
        if machine is not None and machine.spec.id.lower() == record.id.lower():
            machine.stop()

    def _spec(self, cloud: Cloud, record: Record, inputs: Values, machine_id: str, voice: Voice) -> MachineSpec:
        parts = _parts(cloud, record.id, inputs)
        size = capacity(str(inputs["hardwareProfile"]["vmSize"]))
        disks = (parts.os_disk, *parts.data_disks)
        digest = hashlib.sha256(parts.nic.id.lower().encode()).hexdigest()
        mac = str(parts.nic.outputs.get("macAddress") or f"00-0D-3A-{digest[:2]}-{digest[2:4]}-{digest[4:6]}")
        return MachineSpec(
            id=record.id,
            name=record.name,
            uuid=machine_id,
            cpus=size.cpus,
            memory_mib=size.memory_mib,
            uefi=parts.os_disk.inputs.get("hyperVGeneration", "V1") == "V2",
            disks=tuple(str(cloud.folders.disks / disk.name / OVERLAY) for disk in disks),
            mac=mac.replace("-", ":").lower(),
            address=address_of(parts.nic),
            subnet=prefix_of(parts.subnet),
            ports=ports_into(cloud, parts.nic, voice),
        )


def _refuse_profile(inputs: Values) -> None:
    profile = inputs.get("storageProfile") or {}
    os_disk = profile.get("osDisk") or {}
    if inputs.get("osProfile"):
        raise azure_error("InvalidParameter", "osProfile is not allowed when the OS disk is attached")
    if profile.get("imageReference"):
        raise azure_error("NotRealised", "the local target boots VMs from attached disks, not from images")
    if os_disk.get("createOption") != "Attach":
        raise azure_error("NotRealised", "the local target boots VMs from an attached OS disk (createOption Attach)")
    if not os_disk.get("osType"):
        raise azure_error(
            "InvalidParameter", "required parameter 'osDisk.osType' is missing: an attached disk needs it"
        )
    luns = [disk.get("lun") for disk in profile.get("dataDisks") or []]
    if len(set(luns)) != len(luns):
        raise azure_error("InvalidParameter", "two data disks have the same lun")
    if len((inputs.get("networkProfile") or {}).get("networkInterfaces") or []) != 1:
        raise azure_error("NotRealised", "the local target gives a VM exactly one network interface")


def _parts(cloud: Cloud, resource_id: str, inputs: Values) -> _Parts:
    profile = inputs["storageProfile"]
    nic_id = inputs["networkProfile"]["networkInterfaces"][0]["id"]
    nic = existing(cloud, nic_id, NetworkInterface.resource_type, resource_id)
    return _Parts(
        os_disk=_disk(cloud, resource_id, profile["osDisk"]),
        data_disks=tuple(
            _disk(cloud, resource_id, disk)
            for disk in sorted(profile.get("dataDisks") or [], key=lambda d: int(d["lun"]))
        ),
        nic=nic,
        subnet=existing(cloud, subnet_of(nic), Subnet.resource_type, nic.id),
    )


def _disk(cloud: Cloud, resource_id: str, reference: Mapping[str, Any]) -> Record:
    disk_id = (reference.get("managedDisk") or {}).get("id")
    if not disk_id:
        raise azure_error("InvalidParameter", "an attached disk needs managedDisk.id")
    disk = existing(cloud, disk_id, Disk.resource_type, resource_id)
    if Disk().gone(cloud, disk):
        raise azure_error("DiskNotFound", f"the content of disk {disk.id} is gone", remedy="run `pulumi refresh`")
    return disk


def _deleted_with(inputs: Values) -> list[tuple[str, Kind]]:
    """Return what goes with the VM, by the deleteOption of each reference."""
    profile = inputs.get("storageProfile") or {}
    disks = [profile.get("osDisk") or {}, *(profile.get("dataDisks") or [])]
    nics = (inputs.get("networkProfile") or {}).get("networkInterfaces") or []
    found: list[tuple[str, Kind]] = [
        (disk["managedDisk"]["id"], Disk()) for disk in disks if disk.get("deleteOption") == "Delete"
    ]
    return found + [(nic["id"], NetworkInterface()) for nic in nics if nic.get("deleteOption") == "Delete"]


def _refuse_dead(record: Record, outputs: Values, machine: Machine) -> None:
    """Raise `PartlyCreated` when the machine was started and ended at once: it exists, and the next `up` starts it."""
    if machine.identity.gone_within(SETTLE_SECONDS):
        failure: LifeboatError = PartlyCreated(
            record.id,
            wrap_all(outputs),
            wrap_all(record.inputs),
            [f"the VM was started and ended at once; its console is in {machine.console}"],
            remedy="look at the console; the next `pulumi up` starts it again",
        )
        raise failure
