"""Resource groups, Recovery Services vaults and management locks: records, with what Azure refuses about them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dr.local.standin.kinds import Cloud, Extension, Kind, Values, azure_error
from dr.local.standin.records import Record

LOCK_TYPE = "azure-native:authorization:ManagementLockByScope"


class ResourceGroup(Kind):
    resource_type = "azure-native:resources:ResourceGroup"
    arm_type = "Microsoft.Resources/resourceGroups"
    path = "/resourceGroups/{resourceGroupName}"
    name_input = "resourceGroupName"
    name_pattern = r"[-\w.()]{0,89}[-\w()]"

    def parent_id(self, inputs: Values) -> None:
        return None

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        if not inputs.get("location"):
            raise azure_error("LocationRequired", "the location property is required for this definition")


class RecoveryVault(Kind):
    resource_type = "azure-native:recoveryservices:Vault"
    arm_type = "Microsoft.RecoveryServices/vaults"
    path = "/resourceGroups/{resourceGroupName}/providers/Microsoft.RecoveryServices/vaults/{vaultName}"
    name_input = "vaultName"
    name_pattern = r"[A-Za-z][A-Za-z0-9-]{1,49}"

    def create(self, cloud: Cloud, record: Record, voice: object) -> dict[str, Any]:
        outputs = self.outputs(record)
        del outputs["provisioningState"]
        return {**outputs, "properties": {**record.inputs.get("properties", {}), "provisioningState": "Succeeded"}}


class ManagementLock(Extension):
    resource_type = LOCK_TYPE
    arm_type = "Microsoft.Authorization/locks"
    path = "/{scope}/providers/Microsoft.Authorization/locks/{lockName}"
    name_input = "lockName"


def locks_over(cloud: Cloud, resource_id: str) -> Iterator[Record]:
    """Yield the locks that hold for a resource: those on itself and on every scope above it."""
    target = f"{resource_id.lower()}/"
    for lock in cloud.records.all(LOCK_TYPE):
        scope = lock.id.lower().rsplit("/providers/microsoft.authorization/locks/", 1)[0]
        if target.startswith(f"{scope}/") and lock.id.lower() != resource_id.lower():
            yield lock


def refuse_locked(cloud: Cloud, resource_id: str, *, deleting: bool) -> None:
    """Raise Azure's `ScopeLocked` when a lock forbids deleting (or, if it is read-only, any change)."""
    for lock in locks_over(cloud, resource_id):
        if deleting or lock.inputs.get("level") == "ReadOnly":
            raise azure_error(
                "ScopeLocked",
                f"the scope of {resource_id} cannot be changed or deleted because it is locked by {lock.id}",
                remedy="remove the lock first",
            )
