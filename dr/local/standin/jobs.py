"""Container Apps: an environment is a record, and so is a job. The one job of a vault is retention, and the identity
that Azure would give it is a login of its own here: the process that uses it is started by `dr local up`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dr.local.standin.kinds import Cloud, Kind, Values, Voice, azure_error, existing
from dr.local.standin.records import Record
from dr.target.access import RETENTION_FILE, grant_retention


class ManagedEnvironment(Kind):
    resource_type = "azure-native:app:ManagedEnvironment"
    arm_type = "Microsoft.App/managedEnvironments"
    path = "/resourceGroups/{resourceGroupName}/providers/Microsoft.App/managedEnvironments/{environmentName}"
    name_input = "environmentName"
    name_pattern = r"(?=.{2,32}$)[A-Za-z][A-Za-z0-9-]*[A-Za-z0-9]"
    also_replacing = ("location", "vnetConfiguration")


class Job(Kind):
    resource_type = "azure-native:app:Job"
    arm_type = "Microsoft.App/jobs"
    path = "/resourceGroups/{resourceGroupName}/providers/Microsoft.App/jobs/{jobName}"
    name_input = "jobName"
    name_pattern = r"(?=.{2,32}$)[a-z]([a-z0-9-]*[a-z0-9])"
    also_replacing = ("location", "environmentId")

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        existing(cloud, str(inputs["environmentId"]), ManagedEnvironment.resource_type, resource_id)
        account = _account(inputs)
        if account is not None and account not in cloud.azurite.accounts():
            raise azure_error("AccountNotFound", f"{resource_id} works on the storage account {account}: there is none")

    def create(self, cloud: Cloud, record: Record, voice: Voice) -> dict[str, Any]:
        _grant(cloud, record.inputs)
        return self.outputs(record)

    def update(self, cloud: Cloud, record: Record, inputs: Values, voice: Voice) -> dict[str, Any]:
        _grant(cloud, inputs)
        return super().update(cloud, record, inputs, voice)

    def delete(self, cloud: Cloud, record: Record, voice: Voice) -> None:
        if _account(record.inputs) is not None:
            (cloud.folders.cloud / RETENTION_FILE).unlink(missing_ok=True)

    def visible(self, inputs: Values) -> dict[str, Any]:
        shown = super().visible(inputs)
        identity = shown.get("identity") or {}
        if identity.get("userAssignedIdentities"):
            # A list on its way to Azure, a map on its way back.
            known: dict[str, Any] = {each: {} for each in identity["userAssignedIdentities"]}
            shown["identity"] = {**identity, "userAssignedIdentities": known}
        return shown


def _grant(cloud: Cloud, inputs: Values) -> None:
    account = _account(inputs)
    if account is not None:
        grant_retention(account, cloud.folders, datetime.now(UTC))


def _account(inputs: Values) -> str | None:
    """Return the storage account that a job's container works on."""
    for container in (inputs.get("template") or {}).get("containers", []):
        arguments = list(container.get("args") or [])
        if arguments[:1] == ["retention"] and "--account" in arguments[:-1]:
            return str(arguments[arguments.index("--account") + 1])
    return None
