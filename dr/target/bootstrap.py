"""What must be in Azure before the first stack: account, container and key of the stacks' state. Made once, by name.

The steps are data: each is one resource by its id, with what it must be like. Carrying one out asks for it, compares,
and writes only what is missing or differs, so that a second run changes nothing and an interrupted one goes on.

- Nobody can read the state by a key of the account (they are off) or from another tenant; blobs are versioned and
  kept after deletion, because the state of the stacks is what a failover is continued from.
- The key encrypts the secrets in the state. Its vault can't be purged, and keeps what was deleted: a lost key would
  be lost state.
- A lock keeps the group from being deleted. It guards the resources, not the blobs in them: those Pulumi changes.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError, HttpResponseError

from dr.azure_failures import Meaning, code_of, meaning
from dr.compile import names
from dr.errors import LifeboatError
from dr.model import Site
from dr.target.azure import failure

if TYPE_CHECKING:
    from azure.mgmt.resource.resources import ResourceManagementClient

KEPT_DAYS = 90  # of deleted blobs, versions and keys; the most that Key Vault takes
# Built-in roles, the same in every tenant (Azure documentation, "Azure built-in roles").
BLOB_CONTRIBUTOR = "ba92f5b4-2d11-453d-a403-e96b0029c9fe"
CRYPTO_USER = "12338af0-0e69-4776-bea7-57ae8d297424"
_SUBSCRIPTIONS, _GROUPS, _STORAGE, _KEY_VAULT = "2022-12-01", "2025-04-01", "2024-01-01", "2024-11-01"
_ROLES, _LOCKS = "2022-04-01", "2020-05-01"
_NAMESPACE = uuid.UUID("6d5c1a52-8a4e-4f0b-9f52-3f6f2f1f7b0a")  # of the names that role assignments must have


@dataclass(frozen=True, slots=True)
class Step:
    """One resource. `kept` means: if it is there, whatever it is like, it stays (a key is never made anew)."""

    what: str
    id: str
    api_version: str
    body: Mapping[str, Any]
    kept: bool = False

    @property
    def name(self) -> str:
        """What a person reads: the kind of thing and the last part of its id."""
        return f"{self.what} {self.id.rpartition('/')[2]}"


@dataclass(frozen=True, slots=True)
class Operator:
    """Who may read and write the state; `kind` as the service calls it, "" where only the service knows."""

    object_id: str
    kind: str = ""


def steps(site: Site, subscription: str, tenant: str, operators: tuple[Operator, ...]) -> Iterator[Step]:
    """Yield the steps in the order in which they depend on each other. Pure."""
    group = f"/subscriptions/{subscription}/resourceGroups/{names.state_resource_group(site.name)}"
    account = f"{group}/providers/Microsoft.Storage/storageAccounts/{names.state_account(site.name, subscription)}"
    vault = f"{group}/providers/Microsoft.KeyVault/vaults/{names.state_key_vault(site.name, subscription)}"
    place = {"location": site.location, "tags": {names.TAG_SITE: site.name}}
    yield Step("resource group", group, _GROUPS, place)
    yield Step("storage account", account, _STORAGE, {**place, **_account(site)})
    yield Step("kept versions", f"{account}/blobServices/default", _STORAGE, {"properties": _history()})
    container = {"properties": {"publicAccess": "None"}}
    yield Step("container", f"{account}/blobServices/default/containers/{names.STATE}", _STORAGE, container)
    yield Step("key vault", vault, _KEY_VAULT, {**place, "properties": _vault(tenant)})
    yield Step("key", f"{vault}/keys/{names.STATE_KEY}", _KEY_VAULT, {"properties": _key()}, kept=True)
    for operator in operators:
        yield _role("role on the state", account, BLOB_CONTRIBUTOR, subscription, operator)
        yield _role("role on the key", vault, CRYPTO_USER, subscription, operator)
    note = "Lifeboat: the state of all stacks of this site. Without it nothing can be changed any more."
    lock = {"properties": {"level": "CanNotDelete", "notes": note}}
    yield Step("lock", f"{group}/providers/Microsoft.Authorization/locks/lifeboat-state", _LOCKS, lock)


def tenant_of(resources: ResourceManagementClient, subscription: str) -> str:
    """Return the tenant that a subscription belongs to. `NotFound`, `Refused`, `Unreachable`."""
    try:
        found = resources.resources.get_by_id(f"subscriptions/{subscription}", api_version=_SUBSCRIPTIONS)
    except AzureError as error:
        raise failure(error, f"subscription {subscription}") from error
    return str(found["tenantId"])


def carry_out(step: Step, resources: ResourceManagementClient, *, dry_run: bool) -> str:
    """Make a step true; return "there", "made" or "changed", or with `dry_run` what would be done.

    Errors: those of `dr.target.azure.failure`, with the step's name.
    """
    try:
        found = _find(step, resources)
        if found is not None and (step.kept or not any(differences(step.body, found))):
            return "there"
        state = "made" if found is None else "changed"
        if dry_run:
            return f"would be {state}"
        resources.resources.begin_create_or_update_by_id(
            step.id.lstrip("/"), dict(step.body), api_version=step.api_version
        ).result()
    except HttpResponseError as error:
        # The same role for the same person under another name, given by hand.
        if code_of(error) == "RoleAssignmentExists":
            return "there"
        raise failure(error, step.name) from error
    except AzureError as error:
        raise failure(error, step.name) from error
    return state


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the paths at which what is found is not as wanted; what is not asked for does not count."""
    for name, value in wanted.items():
        place, there = f"{path}.{name}".lstrip("."), found.get(name)
        if isinstance(value, Mapping):
            yield from differences(value, there if isinstance(there, Mapping) else {}, place)
        elif _plain(value) != _plain(there):
            yield place


def _find(step: Step, resources: ResourceManagementClient) -> Mapping[str, Any] | None:
    try:
        found: Mapping[str, Any] = resources.resources.get_by_id(step.id.lstrip("/"), api_version=step.api_version)
    except HttpResponseError as error:
        if meaning(error) is Meaning.MISSING:
            return None
        raise
    return found


def _plain(value: Any) -> Any:
    """Return a value as it is compared: the service writes places and ids with other capitals and spaces."""
    return value.lower().replace(" ", "") if isinstance(value, str) else value


def _account(site: Site) -> dict[str, Any]:
    return {
        "kind": "StorageV2",
        "sku": {"name": f"Standard_{site.storage.redundancy.value}"},
        "properties": {
            "accessTier": "Hot",
            "allowBlobPublicAccess": False,
            "allowCrossTenantReplication": False,
            "allowSharedKeyAccess": False,
            "minimumTlsVersion": "TLS1_2",
            "supportsHttpsTrafficOnly": True,
        },
    }


def _history() -> dict[str, Any]:
    kept = {"enabled": True, "days": KEPT_DAYS}
    return {"isVersioningEnabled": True, "deleteRetentionPolicy": kept, "containerDeleteRetentionPolicy": kept}


def _vault(tenant: str) -> dict[str, Any]:
    return {
        "tenantId": tenant,
        "sku": {"family": "A", "name": "standard"},
        "enableRbacAuthorization": True,
        "enableSoftDelete": True,
        "softDeleteRetentionInDays": KEPT_DAYS,
        "enablePurgeProtection": True,
    }


def _key() -> dict[str, Any]:
    return {"kty": "RSA", "keySize": 3072, "keyOps": ["encrypt", "decrypt"]}


def _role(what: str, scope: str, role: str, subscription: str, operator: Operator) -> Step:
    name = uuid.uuid5(_NAMESPACE, f"{scope}/{role}/{operator.object_id}".lower())
    definition = f"/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{role}"
    kind = {"principalType": operator.kind} if operator.kind else {}
    properties = {"roleDefinitionId": definition, "principalId": operator.object_id, **kind}
    identity = f"{scope}/providers/Microsoft.Authorization/roleAssignments/{name}"
    return Step(f"{what} for {operator.object_id}", identity, _ROLES, {"properties": properties}, kept=True)


def operator_of(token: Mapping[str, Any]) -> Operator:
    """Return whom the claims of an access token speak of. `LifeboatError` when they name nobody."""
    if not token.get("oid"):
        raise LifeboatError(
            "the login's token names no object id", code="login-unknown", remedy="name it: --operator OBJECT_ID"
        )
    return Operator(str(token["oid"]), "ServicePrincipal" if token.get("idtyp") == "app" else "User")
