"""Managed disks: imported from a page blob, or empty.

    cloud/disks/NAME/base.raw     as imported, sparse, read-only
    cloud/disks/NAME/disk.qcow2   what the VM writes, on top of it

A disk appears under its name only when it is whole; an import works in a folder beside it that is removed when it
fails, is cancelled, or is found again after a crash.
"""

from __future__ import annotations

import shutil
import subprocess
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from azure.core import MatchConditions

from dr.errors import RunFailed
from dr.local.standin.attachment import attached_machine
from dr.local.standin.kinds import Cloud, Kind, Values, Voice, azure_error, existing, same_location
from dr.local.standin.records import Record
from dr.local.standin.storage import StorageAccount
from dr.local.tools import program

BASE = "base.raw"
OVERLAY = "disk.qcow2"
PIECE_BYTES = 4 << 20  # what Azure Storage reads in one request at full speed
WORKERS = 4
MIB = 1 << 20
GIB = 1 << 30
_UNCHANGED = MatchConditions.IfNotModified


class Disk(Kind):
    resource_type = "azure-native:compute:Disk"
    arm_type = "Microsoft.Compute/disks"
    path = "/resourceGroups/{resourceGroupName}/providers/Microsoft.Compute/disks/{diskName}"
    name_input = "diskName"

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        data = inputs["creationData"]
        option = data.get("createOption")
        for other in cloud.records.all(self.resource_type):
            if other.name == inputs["diskName"] and other.id.lower() != resource_id.lower():
                raise azure_error("NotRealised", f"the local target keeps disks by their name, and {other.id} has it")
        if option == "Empty":
            if not inputs.get("diskSizeGB"):
                raise azure_error("InvalidParameter", "an empty disk needs diskSizeGB")
            return
        if option != "Import":
            raise azure_error("NotRealised", f'the local target makes disks by "Import" and "Empty", not "{option}"')
        for name in ("sourceUri", "storageAccountId"):
            if not data.get(name):
                raise azure_error("InvalidParameter", f"creationData.{name} is required when createOption is Import")
        account = existing(cloud, str(data["storageAccountId"]), StorageAccount.resource_type, resource_id)
        same_location(account, str(inputs.get("location", "")), resource_id)
        _blob_path(cloud, account.name, str(data["sourceUri"]))

    def create(self, cloud: Cloud, record: Record, voice: Voice) -> dict[str, Any]:
        folder = self.folder(cloud, record)
        partial = folder.with_name(f"{folder.name}.partial")
        for leftover in (folder, partial):
            # Nothing in the records stands for them: an earlier attempt died.
            shutil.rmtree(leftover, ignore_errors=True)
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial.mkdir(mode=0o700)
        try:
            size = self._fill(cloud, record, partial / BASE, voice)
            _overlay(partial)
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        return {
            **self.outputs(record),
            "diskSizeBytes": size,
            "diskSizeGB": record.inputs.get("diskSizeGB") or -(-size // GIB),
            "diskState": "Unattached",
            "hyperVGeneration": record.inputs.get("hyperVGeneration", "V1"),
            "timeCreated": datetime.now(UTC).isoformat(timespec="seconds"),
            "uniqueId": str(uuid.uuid4()),
        }

    def _fill(self, cloud: Cloud, record: Record, base: Path, voice: Voice) -> int:
        data = record.inputs["creationData"]
        if data["createOption"] == "Empty":
            size = int(record.inputs["diskSizeGB"]) * GIB
            with base.open("xb") as file:
                file.truncate(size)
            return size
        account = existing(cloud, data["storageAccountId"], StorageAccount.resource_type, record.id)
        container, name = _blob_path(cloud, account.name, data["sourceUri"])
        from dr.local.standin.blobs import import_disk  # noqa: PLC0415 - the storage SDK costs a preview a second

        return import_disk(cloud, account.name, container, name, base, voice)

    def refuse_update(self, cloud: Cloud, record: Record, inputs: Values) -> None:
        fixed = ("creationData", "hyperVGeneration", "osType", "diskSizeGB")
        for name in fixed:
            if inputs.get(name) != record.inputs.get(name):
                raise azure_error(
                    "PropertyChangeNotAllowed",
                    f"changing property '{name}' of disk {record.name} is not allowed",
                    remedy="replace the disk (the program can say so by replace_on_changes or replace_with)",
                )

    def refuse_delete(self, cloud: Cloud, record: Record) -> None:
        machine = attached_machine(cloud, record.id)
        if machine is not None:
            raise azure_error("OperationNotAllowed", f"disk {record.name} is attached to VM {machine.id}")

    def delete(self, cloud: Cloud, record: Record, voice: Voice) -> None:
        folder = self.folder(cloud, record)
        shutil.rmtree(folder.with_name(f"{folder.name}.partial"), ignore_errors=True)
        if folder.exists():
            shutil.rmtree(folder)

    def gone(self, cloud: Cloud, record: Record) -> bool:
        folder = self.folder(cloud, record)
        return not ((folder / BASE).exists() and (folder / OVERLAY).exists())

    def folder(self, cloud: Cloud, record: Record) -> Path:
        return cloud.folders.disks / record.name


def _blob_path(cloud: Cloud, account: str, uri: str) -> tuple[str, str]:
    """Return container and blob of a source URI that lies in `account`."""
    address = urlsplit(uri)
    parts = address.path.lstrip("/").split("/", 2)
    if f"{address.scheme}://{address.netloc}" != cloud.azurite.endpoint() or len(parts) != 3 or parts[0] != account:
        raise azure_error("InvalidParameter", f"source blob {uri} does not belong to storage account {account}")
    if "snapshot=" in address.query:
        raise azure_error(
            "InvalidParameter", "a disk is imported from a blob, not from a snapshot of one: copy it first"
        )
    return parts[1], parts[2]


def _overlay(folder: Path) -> None:
    command = [program("qemu-img"), "create", "-q", "-f", "qcow2", "-F", "raw", "-b", BASE, OVERLAY]
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if made.returncode:
        raise RunFailed(f"qemu-img could not make the disk's overlay: {made.stderr.strip()}")
