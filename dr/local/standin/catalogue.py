"""The resource types that the local target realises."""

from __future__ import annotations

from dr.errors import Refused
from dr.local.standin.compute import VirtualMachine
from dr.local.standin.disks import Disk
from dr.local.standin.gateways import Bastion, Connection, Gateway, Peer
from dr.local.standin.groups import ManagementLock, RecoveryVault, ResourceGroup
from dr.local.standin.identity import RoleAssignment, RoleDefinition, UserAssignedIdentity
from dr.local.standin.jobs import Job, ManagedEnvironment
from dr.local.standin.keyvault import Key, KeyVault
from dr.local.standin.kinds import Kind
from dr.local.standin.metadata import Metadata, arguments_class, metadata
from dr.local.standin.network import NetworkInterface, SecurityGroup, Subnet, VirtualNetwork
from dr.local.standin.outbound import NatGateway, PublicAddress
from dr.local.standin.private_link import PrivateDnsZoneGroup, PrivateEndpoint
from dr.local.standin.private_zones import PrivateZone, ZoneLink
from dr.local.standin.reservations import Reservation, ReservationGroup
from dr.local.standin.storage import BlobContainer, BlobServiceProperties, ImmutabilityPolicy, StorageAccount
from dr.local.standin.watching import ActionGroup, ActivityLogAlert, Budget, DiagnosticSetting, Workspace
from dr.target.cache import cache

# What a type refers to stands before it, so that a resource group is emptied from the end.
KINDS: dict[str, Kind] = {
    kind.resource_type: kind
    for kind in (
        ResourceGroup(),
        RecoveryVault(),
        ManagementLock(),
        StorageAccount(),
        BlobServiceProperties(),
        BlobContainer(),
        ActionGroup(),
        Workspace(),
        PublicAddress(),
        NatGateway(),
        ImmutabilityPolicy(),
        KeyVault(),
        Key(),
        UserAssignedIdentity(),
        RoleDefinition(),
        RoleAssignment(),
        ManagedEnvironment(),
        Job(),
        SecurityGroup(),
        VirtualNetwork(),
        Subnet(),
        PrivateZone(),
        ZoneLink(),
        Bastion(),
        Gateway(),
        Peer(),
        Connection(),
        ReservationGroup(),
        Reservation(),
        Budget(),
        ActivityLogAlert(),
        DiagnosticSetting(),
        PrivateEndpoint(),
        PrivateDnsZoneGroup(),
        NetworkInterface(),
        Disk(),
        VirtualMachine(),
    )
}


def kind_of(resource_type: str) -> Kind:
    """Return the kind of a type token. `Refused` when the SDK does not know it, or the local target does not.

    A resource within a component is asked for with the types above it: `lifeboat:site:Outbound$azure-native:…`.
    """
    resource_type = resource_type.rpartition("$")[2]
    kind = KINDS.get(resource_type)
    if kind is None:
        arguments_class(resource_type)
        raise Refused(
            f'the local target does not realise "{resource_type}"',
            code="not-realised",
            remedy=f"it realises {', '.join(sorted(KINDS))}",
        )
    return kind


def realised_inputs() -> Metadata:
    """Return what the SDK says about the inputs of the realised types; the first time it takes seconds."""
    return metadata(KINDS, cache())
