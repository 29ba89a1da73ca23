"""Which running machine holds a disk or a network interface."""

from __future__ import annotations

from collections.abc import Iterator

from dr.local.machines import Machine, load
from dr.local.standin.kinds import Cloud, Values
from dr.local.standin.records import Record

MACHINE_TYPE = "azure-native:compute:VirtualMachine"


def used_by(inputs: Values) -> Iterator[str]:
    """Yield the ids of disks and network interfaces that a VM's inputs refer to, in lower case."""
    profile = inputs.get("storageProfile") or {}
    for disk in (profile.get("osDisk") or {}, *(profile.get("dataDisks") or [])):
        disk_id = (disk.get("managedDisk") or {}).get("id")
        if disk_id:
            yield str(disk_id).lower()
    for nic in (inputs.get("networkProfile") or {}).get("networkInterfaces") or []:
        yield str(nic.get("id", "")).lower()


def running(cloud: Cloud, record: Record) -> Machine | None:
    """Return the machine of a VM's record if its process runs."""
    machine = load(cloud.folders.machines / record.name)
    if machine is None or machine.spec.id.lower() != record.id.lower() or not machine.alive():
        return None
    return machine


def attached_machine(cloud: Cloud, resource_id: str) -> Record | None:
    """Return the VM's record that holds a resource; one whose process is gone holds nothing."""
    for record in cloud.records.all(MACHINE_TYPE):
        holds = record.state == "creating" or running(cloud, record) is not None
        if resource_id.lower() in used_by(record.inputs) and holds:
            return record
    return None


def attached_to(cloud: Cloud, resource_id: str) -> Machine | None:
    """Return the running machine that holds a resource."""
    record = attached_machine(cloud, resource_id)
    return None if record is None else running(cloud, record)
