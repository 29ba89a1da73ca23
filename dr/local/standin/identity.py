"""Managed identities, custom roles and their assignments: records. What they forbid, Azurite knows nothing of: on
target local the same table is signatures (`dr.target.access`)."""

from __future__ import annotations

import uuid
from typing import Any

from dr.local.standin.kinds import Cloud, Extension, Kind, Values, Voice, azure_error
from dr.local.standin.records import Record

_MADE_UP = uuid.UUID("4d1f7b2a-7f5e-4b8f-9c56-3f0b1c2d3e4f")
_GUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"


class UserAssignedIdentity(Kind):
    resource_type = "azure-native:managedidentity:UserAssignedIdentity"
    arm_type = "Microsoft.ManagedIdentity/userAssignedIdentities"
    path = (
        "/resourceGroups/{resourceGroupName}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{resourceName}"
    )
    name_input = "resourceName"
    name_pattern = r"[A-Za-z0-9][\w-]{2,127}"

    def create(self, cloud: Cloud, record: Record, voice: Voice) -> dict[str, Any]:
        made = {word: str(uuid.uuid5(_MADE_UP, f"{record.id.lower()}/{word}")) for word in ("clientId", "principalId")}
        return {**self.outputs(record), **made, "tenantId": str(uuid.UUID(int=0))}


class _Scoped(Extension):
    name_pattern = _GUID


class RoleDefinition(_Scoped):
    resource_type = "azure-native:authorization:RoleDefinition"
    arm_type = "Microsoft.Authorization/roleDefinitions"
    path = "/{scope}/providers/Microsoft.Authorization/roleDefinitions/{roleDefinitionId}"
    name_input = "roleDefinitionId"

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        for record in cloud.records.all(self.resource_type):
            if record.inputs.get("roleName") == inputs.get("roleName"):
                raise azure_error(
                    "RoleDefinitionWithSameNameExists", f"a custom role named {inputs.get('roleName')} exists already"
                )

    def refuse_delete(self, cloud: Cloud, record: Record) -> None:
        held = [
            each.id
            for each in cloud.records.all(RoleAssignment.resource_type)
            if str(each.inputs.get("roleDefinitionId")).lower() == record.id.lower()
        ]
        if held:
            raise azure_error(
                "RoleDefinitionHasAssignments", f"there are existing role assignments referencing role {record.name}"
            )


class RoleAssignment(_Scoped):
    resource_type = "azure-native:authorization:RoleAssignment"
    arm_type = "Microsoft.Authorization/roleAssignments"
    path = "/{scope}/providers/Microsoft.Authorization/roleAssignments/{roleAssignmentName}"
    name_input = "roleAssignmentName"
    also_replacing = ("principalId", "roleDefinitionId")

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        wanted = str(inputs["roleDefinitionId"])
        custom = "/resourcegroups/" in wanted.lower()  # Azure's own roles lie above every group
        if custom and cloud.records.find(wanted) is None:
            raise azure_error("RoleDefinitionDoesNotExist", f"the specified role definition {wanted} does not exist")
