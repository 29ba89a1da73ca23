"""What really exists in a resource group, asked of the target and not of any state."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from dr.target.folders import LOCAL_SUBSCRIPTION, Folders

if TYPE_CHECKING:
    from dr.target.azure import Azure

# The generic call wants a version that the type has. What is not here cannot be asked for one by one.
_VERSIONS = {
    "microsoft.network/virtualnetworks": "2024-05-01",
    "microsoft.network/virtualnetworks/subnets": "2024-05-01",
    "microsoft.network/networksecuritygroups": "2024-05-01",
    "microsoft.network/networkinterfaces": "2024-05-01",
    "microsoft.compute/virtualmachines": "2024-11-01",
    "microsoft.compute/disks": "2024-03-02",
    "microsoft.storage/storageaccounts": "2024-01-01",
    "microsoft.keyvault/vaults": "2024-11-01",
}


def resource_ids(
    subscription: str, resource_group: str, folders: Folders | None = None, azure: Azure | None = None
) -> tuple[str, ...]:
    """Return the ARM ids in a resource group, in order; empty when there is no such group.

    On target local, what was being made by a process that died is not among them: the target itself counts it as
    absent. In Azure it is: it holds its name. Child resources (a subnet, a container) are not listed.
    Raises `Refused` (no login, no role), `Unreachable`.
    """
    if subscription != LOCAL_SUBSCRIPTION:
        return _in_azure(azure or _connected(), subscription, resource_group)
    scope = f"/subscriptions/{subscription}/resourcegroups/{resource_group}/".lower()
    found: list[str] = []
    for path in (folders or Folders.from_environment()).resources.glob("*.json"):
        try:
            record = json.loads(path.read_bytes())
        except FileNotFoundError:
            continue  # removed between the listing and the reading
        if record["state"] == "ready" and record["id"].lower().startswith(scope):
            found.append(record["id"])
    return tuple(sorted(found))


def exists(
    subscription: str, resource_id: str, folders: Folders | None = None, azure: Azure | None = None
) -> bool | None:
    """Say whether a resource is there; None for a type that this target cannot be asked about.

    Raises `Refused` (no login, no role), `Unreachable`.
    """
    if subscription != LOCAL_SUBSCRIPTION:
        return _is_in_azure(azure or _connected(), subscription, resource_id)
    group = resource_id.split("/")[4]
    wanted = resource_id.lower()
    return any(found.lower() == wanted for found in resource_ids(subscription, group, folders))


def _in_azure(azure: Azure, subscription: str, resource_group: str) -> tuple[str, ...]:
    from azure.core.exceptions import AzureError  # noqa: PLC0415 - only target azure needs the SDK

    from dr.azure_failures import Meaning, meaning  # noqa: PLC0415 - as above
    from dr.target.azure import failure  # noqa: PLC0415 - as above

    try:
        listed = list(azure.resources(subscription).resources.list_by_resource_group(resource_group))
    except AzureError as error:
        if meaning(error) is Meaning.MISSING:
            return ()
        raise failure(error, f"resource group {resource_group}") from error
    return tuple(sorted(str(one.id) for one in listed))


def _is_in_azure(azure: Azure, subscription: str, resource_id: str) -> bool | None:
    from azure.core.exceptions import AzureError  # noqa: PLC0415 - as above

    from dr.azure_failures import Meaning, meaning  # noqa: PLC0415 - as above
    from dr.target.azure import failure  # noqa: PLC0415 - as above

    version = _VERSIONS.get(_type_of(resource_id))
    if version is None:
        return None
    try:
        azure.resources(subscription).resources.get_by_id(resource_id.lstrip("/"), api_version=version)
    except AzureError as error:
        if meaning(error) is Meaning.MISSING:
            return False
        raise failure(error, resource_id) from error
    return True


def _type_of(resource_id: str) -> str:
    """Return NAMESPACE/TYPE/SUBTYPE of an id, in lower case."""
    namespace, *rest = resource_id.lower().rpartition("/providers/")[2].split("/")
    return "/".join([namespace, *rest[::2]])


def _connected() -> Azure:
    from dr.target.azure import connect  # noqa: PLC0415 - as above

    return connect()
