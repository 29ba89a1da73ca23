"""Storage accounts and containers, real ones: in Azurite."""

from __future__ import annotations

from typing import Any

from dr.local.standin.kinds import Cloud, Kind, Values, Voice, azure_error
from dr.local.standin.records import Record

_ACCOUNT = "/resourceGroups/{resourceGroupName}/providers/Microsoft.Storage/storageAccounts/{accountName}"


class StorageAccount(Kind):
    resource_type = "azure-native:storage:StorageAccount"
    arm_type = "Microsoft.Storage/storageAccounts"
    path = _ACCOUNT
    name_input = "accountName"
    also_replacing = ("location", "isHnsEnabled", "enableNfsV3")

    def made_up_name(self, logical: str, seed: bytes) -> str:
        letters = "".join(c for c in logical.lower() if c.isascii() and c.isalnum())
        return f"{letters[:16]}{seed[:4].hex()}"

    def refuse_name(self, name: str) -> None:
        if not (3 <= len(name) <= 24 and name.isascii() and name.isalnum() and name == name.lower()):
            raise azure_error(
                "AccountNameInvalid",
                f"{name} is not a valid storage account name: between 3 and 24 characters, lower-case letters and "
                "digits only",
            )

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        name = str(inputs["accountName"])
        taken = any(record.name == name for record in cloud.records.all(self.resource_type))
        if taken or name in cloud.azurite.accounts():
            raise azure_error("StorageAccountAlreadyTaken", f"the storage account named {name} is already taken")

    def create(self, cloud: Cloud, record: Record, voice: Voice) -> dict[str, Any]:
        voice.status("adding the account to Azurite")
        cloud.azurite.add_account(record.name)
        return {
            **self.outputs(record),
            "primaryEndpoints": {"blob": f"{cloud.azurite.endpoint()}/{record.name}/"},
            "primaryLocation": record.location,
            "statusOfPrimary": "available",
        }

    def delete(self, cloud: Cloud, record: Record, voice: Voice) -> None:
        if record.name not in cloud.azurite.accounts():
            return
        from dr.local.standin import blobs  # noqa: PLC0415 - the storage SDK costs a preview a second

        # Azurite keeps an account's data when the account is dropped; a new one of that name would inherit it.
        for container in blobs.containers(cloud, record.name):
            voice.status(f"deleting container {container}")
            blobs.delete_container(cloud, record.name, container)
        cloud.azurite.remove_account(record.name)

    def gone(self, cloud: Cloud, record: Record) -> bool:
        return record.name not in cloud.azurite.accounts()


class BlobServiceProperties(Kind):
    """Settings of the account's one blob service; Azurite has no soft delete, so they stay a record."""

    resource_type = "azure-native:storage:BlobServiceProperties"
    arm_type = "Microsoft.Storage/storageAccounts/blobServices"
    path = f"{_ACCOUNT}/blobServices/{{blobServicesName}}"
    parent = _ACCOUNT
    name_input = "blobServicesName"
    name_pattern = "default"
    also_replacing = ()

    def made_up_name(self, logical: str, seed: bytes) -> str:
        return "default"

    def visible(self, inputs: Values) -> dict[str, Any]:
        return {key: value for key, value in inputs.items() if key not in self.path_inputs()}


class BlobContainer(Kind):
    resource_type = "azure-native:storage:BlobContainer"
    arm_type = "Microsoft.Storage/storageAccounts/blobServices/containers"
    path = f"{_ACCOUNT}/blobServices/default/containers/{{containerName}}"
    parent = _ACCOUNT
    name_input = "containerName"
    name_pattern = r"(?=.{3,63}$)[a-z0-9]+(-[a-z0-9]+)*"
    also_replacing = ()

    def create(self, cloud: Cloud, record: Record, voice: Voice) -> dict[str, Any]:
        from dr.local.standin import blobs  # noqa: PLC0415 - as above

        blobs.create_container(cloud, str(record.inputs["accountName"]), record.name)
        return {**self.outputs(record), "publicAccess": record.inputs.get("publicAccess", "None")}

    def delete(self, cloud: Cloud, record: Record, voice: Voice) -> None:
        account = str(record.inputs["accountName"])
        if account in cloud.azurite.accounts():
            from dr.local.standin import blobs  # noqa: PLC0415 - as above

            blobs.delete_container(cloud, account, record.name)

    def gone(self, cloud: Cloud, record: Record) -> bool:
        account = str(record.inputs["accountName"])
        if account not in cloud.azurite.accounts():
            return True
        from dr.local.standin import blobs  # noqa: PLC0415 - as above

        return not blobs.container_exists(cloud, account, record.name)

    def visible(self, inputs: Values) -> dict[str, Any]:
        return {key: value for key, value in inputs.items() if key not in self.path_inputs()}


class ImmutabilityPolicy(Kind):
    """A container's immutability policy: a record, for Azurite has none; it could delete what Azure would keep."""

    resource_type = "azure-native:storage:BlobContainerImmutabilityPolicy"
    arm_type = "Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies"
    path = f"{_ACCOUNT}/blobServices/default/containers/{{containerName}}/immutabilityPolicies/default"
    parent = f"{_ACCOUNT}/blobServices/default/containers/{{containerName}}"
    name_input = "immutabilityPolicyName"
    name_pattern = "default"
    also_replacing = ()

    def made_up_name(self, logical: str, seed: bytes) -> str:
        return "default"

    def visible(self, inputs: Values) -> dict[str, Any]:
        shown = {key: value for key, value in inputs.items() if key not in self.path_inputs()}
        return {**shown, "state": "Unlocked"}
