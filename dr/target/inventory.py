"""What really exists in a resource group, asked of the target and not of any state."""

from __future__ import annotations

import json

from dr.errors import PrerequisiteMissing
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders


def resource_ids(subscription: str, resource_group: str, folders: Folders | None = None) -> tuple[str, ...]:
    """Return the ARM ids in a resource group, in order; empty when there is no such group.

    What was being made by a process that died is not among them: the target itself counts it as absent.
    """
    if subscription != LOCAL_SUBSCRIPTION:
        raise PrerequisiteMissing(
            "the inventory of target azure is not there yet", code="inventory-missing", remedy="use target local"
        )
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


def exists(subscription: str, resource_id: str, folders: Folders | None = None) -> bool | None:
    """Say whether a resource is there; None where this target cannot be asked."""
    if subscription != LOCAL_SUBSCRIPTION:
        return None
    group = resource_id.split("/")[4]
    wanted = resource_id.lower()
    return any(found.lower() == wanted for found in resource_ids(subscription, group, folders))
