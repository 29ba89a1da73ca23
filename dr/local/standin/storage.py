"""Storage accounts and containers, real ones: in Azurite."""

from __future__ import annotations

from typing import Any

from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import BlobServiceClient

from dr.errors import Unreachable
from dr.local.standin.kinds import Cloud, Kind, Values, Voice, azure_error
from dr.local.standin.records import Record

_ACCOUNT = "/resourceGroups/{resourceGroupName}/providers/Microsoft.Storage/storageAccounts/{accountName}"
_REQUEST_SECONDS = 20


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
        # Azurite keeps an account's data when the account is dropped; a new one of that name would inherit it.
        with _client(cloud, record.name) as client:
            for container in _answered(lambda: list(client.list_containers())):
                voice.status(f"deleting container {container.name}")
                _delete_container(client, container.name)
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
        with _client(cloud, str(record.inputs["accountName"])) as client:
            try:
                _answered(lambda: client.create_container(record.name, timeout=_REQUEST_SECONDS))
            except ResourceExistsError:
                raise azure_error(
                    "ContainerAlreadyExists", f"the specified container {record.name} already exists"
                ) from None
        return {**self.outputs(record), "publicAccess": record.inputs.get("publicAccess", "None")}

    def delete(self, cloud: Cloud, record: Record, voice: Voice) -> None:
        account = str(record.inputs["accountName"])
        if account in cloud.azurite.accounts():
            with _client(cloud, account) as client:
                _delete_container(client, record.name)

    def gone(self, cloud: Cloud, record: Record) -> bool:
        account = str(record.inputs["accountName"])
        if account not in cloud.azurite.accounts():
            return True
        with _client(cloud, account) as client:
            return not _answered(client.get_container_client(record.name).exists)

    def visible(self, inputs: Values) -> dict[str, Any]:
        return {key: value for key, value in inputs.items() if key not in self.path_inputs()}


def _client(cloud: Cloud, account: str) -> BlobServiceClient:
    cloud.azurite.start()
    return BlobServiceClient(f"{cloud.azurite.endpoint()}/{account}", credential=cloud.azurite.key(account))


def _delete_container(client: BlobServiceClient, name: str) -> None:
    try:
        _answered(lambda: client.delete_container(name))
    except ResourceNotFoundError:
        # Deleting is repeated after an interruption.
        return


def _answered(call: Any) -> Any:
    """Run a storage call; what is neither "exists" nor "not found" means that Azurite does not answer."""
    try:
        return call()
    except (ResourceExistsError, ResourceNotFoundError):
        raise
    except AzureError as error:
        raise Unreachable(f"the local storage does not answer: {error}", remedy="run `dr local up`") from error
