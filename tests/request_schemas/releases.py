"""Which operation makes a resource of each type, and the release of `azure-mgmt-*` that knows it.

The releases are pinned in pyproject.toml. A type that a program registers and that is not here fails the assertion:
add its line. Where no release has the API version of pulumi-azure-native, `OTHER_VERSIONS` says which one is taken
and why; an entry that is not needed fails too.
"""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import azure.mgmt.core

from tests.request_schemas.operations import Request, read_request


@dataclass(frozen=True, slots=True)
class Made:
    """The operation `group.operation` of the package folder `azure/mgmt/FOLDER`."""

    folder: str
    group: str
    operation: str = "begin_create_or_update"


_VMS, _DISKS = "compute/v2024_11_01", "compute/v2024_03_02"
_PLAIN = "create_or_update"

MADE = {
    "app:Job": Made("appcontainers", "JobsOperations"),
    "app:ManagedEnvironment": Made("appcontainers", "ManagedEnvironmentsOperations"),
    "authorization:ManagementLockByScope": Made(
        "resource/locks", "ManagementLocksOperations", "create_or_update_by_scope"
    ),
    "authorization:RoleAssignment": Made("authorization/v2022_04_01", "RoleAssignmentsOperations", "create"),
    "authorization:RoleDefinition": Made("authorization/v2022_05_01_preview", "RoleDefinitionsOperations", _PLAIN),
    "compute:CapacityReservation": Made(_VMS, "CapacityReservationsOperations"),
    "compute:CapacityReservationGroup": Made(_VMS, "CapacityReservationGroupsOperations", _PLAIN),
    "compute:Disk": Made(_DISKS, "DisksOperations"),
    "compute:DiskAccess": Made(_DISKS, "DiskAccessesOperations"),
    "compute:DiskEncryptionSet": Made(_DISKS, "DiskEncryptionSetsOperations"),
    "compute:VirtualMachine": Made(_VMS, "VirtualMachinesOperations"),
    "compute:VirtualMachineExtension": Made(_VMS, "VirtualMachineExtensionsOperations"),
    "consumption:Budget": Made("consumption", "BudgetsOperations", _PLAIN),
    "keyvault:Key": Made("keyvault", "KeysOperations", "create_if_not_exist"),
    "keyvault:Vault": Made("keyvault", "VaultsOperations"),
    "managedidentity:UserAssignedIdentity": Made("msi/v2023_01_31", "UserAssignedIdentitiesOperations", _PLAIN),
    "monitor:ActionGroup": Made("monitor/v2023_01_01", "ActionGroupsOperations", _PLAIN),
    "monitor:ActivityLogAlert": Made("monitor/v2020_10_01", "ActivityLogAlertsOperations", _PLAIN),
    "monitor:DiagnosticSetting": Made("monitor/v2021_05_01_preview", "DiagnosticSettingsOperations", _PLAIN),
    "network:BastionHost": Made("network", "BastionHostsOperations"),
    "network:LocalNetworkGateway": Made("network", "LocalNetworkGatewaysOperations"),
    "network:NatGateway": Made("network", "NatGatewaysOperations"),
    "network:NetworkInterface": Made("network", "NetworkInterfacesOperations"),
    "network:NetworkSecurityGroup": Made("network", "NetworkSecurityGroupsOperations"),
    "network:PrivateDnsZoneGroup": Made("network", "PrivateDnsZoneGroupsOperations"),
    "network:PrivateEndpoint": Made("network", "PrivateEndpointsOperations"),
    "network:PublicIPAddress": Made("network", "PublicIPAddressesOperations"),
    "network:Subnet": Made("network", "SubnetsOperations"),
    "network:VirtualNetwork": Made("network", "VirtualNetworksOperations"),
    "network:VirtualNetworkGateway": Made("network", "VirtualNetworkGatewaysOperations"),
    "network:VirtualNetworkGatewayConnection": Made("network", "VirtualNetworkGatewayConnectionsOperations"),
    "operationalinsights:Workspace": Made("loganalytics", "WorkspacesOperations"),
    "privatedns:PrivateRecordSet": Made("privatedns", "RecordSetsOperations", _PLAIN),
    "privatedns:PrivateZone": Made("privatedns", "PrivateZonesOperations"),
    "privatedns:VirtualNetworkLink": Made("privatedns", "VirtualNetworkLinksOperations"),
    "recoveryservices:Vault": Made("recoveryservices", "VaultsOperations"),
    "resources:ResourceGroup": Made("resource/resources", "ResourceGroupsOperations", _PLAIN),
    "storage:BlobContainer": Made("storage", "BlobContainersOperations", "create"),
    "storage:BlobContainerImmutabilityPolicy": Made(
        "storage", "BlobContainersOperations", "create_or_update_immutability_policy"
    ),
    "storage:BlobServiceProperties": Made("storage", "BlobServicesOperations", "set_service_properties"),
    "storage:ManagementPolicy": Made("storage", "ManagementPoliciesOperations", _PLAIN),
    "storage:StorageAccount": Made("storage", "StorageAccountsOperations", "begin_create"),
}

# type -> (version of the release that is taken, why). An older version where there is one: what it takes, the newer
# one takes too.
OTHER_VERSIONS = {
    "monitor:ActionGroup": ("2023-01-01", "no release has 2024-10-01-preview; this is the newest before it"),
    "operationalinsights:Workspace": ("2022-10-01", "releases go from 2022-10-01 to 2025-07-01"),
    "recoveryservices:Vault": ("2024-04-01", "releases go from 2024-04-01 to 2025-02-01"),
    "resources:ResourceGroup": (
        "2025-04-01",
        "no release has 2024-03-01, and the product itself needs this one; both take location, tags and managedBy",
    ),
}

_NATIVE = "azure-native:"
_VERSION = re.compile(r"Uses Azure REST API version (\d{4}-\d\d-\d\d[a-z-]*)\.")


@cache
def request_of(token: str) -> Request:
    """Return the request that makes a resource of a type token. `LookupError` when its operation is not known."""
    made = MADE.get(token.removeprefix(_NATIVE))
    if made is None:
        raise LookupError(f"{token}: no operation in tests/request_schemas/releases.py makes it; add its line")
    request = read_request(_folder() / made.folder, made.group, made.operation)
    wanted, taken = native_version(token), request.api_version
    expected = OTHER_VERSIONS.get(token.removeprefix(_NATIVE), (wanted,))[0]
    if taken != expected or (token.removeprefix(_NATIVE) in OTHER_VERSIONS and taken == wanted):
        raise LookupError(f"{token}: azure-native uses {wanted}, the release has {taken}; see OTHER_VERSIONS")
    return request


def native_version(token: str) -> str:
    """Return the API version that pulumi-azure-native uses for a type by default, from its documentation."""
    _, module, name = token.split(":")
    resource = getattr(importlib.import_module(f"pulumi_azure_native.{module}"), name)
    found = _VERSION.search(Path(inspect.getfile(resource)).read_text())
    assert found is not None, f"the SDK does not tell the API version of {token}"
    return found[1]


def _folder() -> Path:
    return Path(azure.mgmt.core.__file__).parents[1]  # `azure.mgmt` itself is a namespace, and has no file
