"""The blueprint: what the Pulumi programs declare, with no choices left.

Every name in it is final and deterministic (see `dr.compile.names`), so that a machine that holds only the
YAML finds everything again. Nothing here asks which target a stack runs on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dr.compile.zone_blueprint import ZoneBlueprint
from dr.model import Application, RunKind, SecretReference, Ssh, Traffic


@dataclass(frozen=True, slots=True)
class Identities:
    """Who exists already in the directory that the subscription trusts; no secret."""

    tenant: str
    site_principal: str  # object id of the application that the site's servers log in as
    operator_principal: str  # object id of the group whose members run `dr`
    retention_image: str  # container image of `dr`, for the retention job


@dataclass(frozen=True, slots=True)
class PrivateEndpointBlueprint:
    """A private way to a part of the vault, inside one subnet of one network."""

    name: str
    target_id: str  # of the storage account or the Key Vault
    part: str  # "blob" | "vault", as Azure calls them
    zone: str  # the private DNS zone that leads there
    subnet_id_suffix: str  # "/resourceGroups/…/subnets/…", joined to the subscription by the program


@dataclass(frozen=True, slots=True)
class VaultNetworkBlueprint:
    """The retention job's own network: peered with nobody."""

    name: str
    prefix: str
    job_subnet: str
    job_prefix: str
    endpoint_subnet: str
    endpoint_prefix: str
    endpoint: PrivateEndpointBlueprint


@dataclass(frozen=True, slots=True)
class GrantBlueprint:
    """One role of one holder on one container."""

    name: str  # a GUID
    holder: str  # "site" | "operator" | "retention"
    role: str  # a key of VaultBlueprint.roles
    container: str


@dataclass(frozen=True, slots=True)
class VaultBlueprint:
    resource_group: str
    location: str
    recovery_vault: str
    storage_account: str
    redundancy: str  # "LRS" | "ZRS" | "GRS" | "GZRS"
    containers: tuple[str, ...]  # replicas, manifests, runs, state, retention
    immutable_container: str
    key_vault: str
    wrapping_key: str
    certificate_authority: str  # name of the CA's key in the key store
    roles: Mapping[str, str]  # word -> GUID
    grants: tuple[GrantBlueprint, ...]
    identities: Identities
    retention_identity: str
    retention_environment: str
    retention_job: str
    lock: str
    network: VaultNetworkBlueprint | None  # only with private endpoints
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DiskBlueprint:
    """One protected disk: `replica` and `digests` are blob names in container `replicas`."""

    name: str
    device: str
    replica: str
    digests: str


@dataclass(frozen=True, slots=True)
class MembershipBlueprint:
    """A server's place in its replication group: where the other members reach it, and the port it listens at."""

    name: str
    address: str  # "address:port"
    port: int


@dataclass(frozen=True, slots=True)
class ProtectionBlueprint:
    """What `up` of the site stack makes true on one server."""

    server: str
    ssh: Ssh  # holds references to secrets, no secret
    disks: tuple[DiskBlueprint, ...]
    process_servers: tuple[str, ...]  # "address:port", in order of preference
    configuration_server: str  # "address:port"
    crash_consistent_seconds: int
    rpo_threshold_seconds: int
    retention_seconds: int
    traffic: Traffic = field(default_factory=Traffic)
    verify_seconds: int = 0
    firmware: str | None = None  # declared: "bios" | "uefi"; None: not compared with the server's
    group: MembershipBlueprint | None = None
    applications: tuple[Application, ...] = ()
    app_consistent_seconds: int | None = None  # None: no such points; the policy wants none, or there is nobody to ask


@dataclass(frozen=True, slots=True)
class SiteBlueprint:
    site: str
    resource_group: str
    location: str
    zone: ZoneBlueprint
    storage_account: str
    certificate_authority: str
    configuration_server: str  # "address:port"
    process_servers: tuple[tuple[str, str], ...]  # (name, "address:port")
    protections: tuple[ProtectionBlueprint, ...]
    tags: Mapping[str, str]
    vault_endpoints: tuple[PrivateEndpointBlueprint, ...] = ()  # only with private endpoints


@dataclass(frozen=True, slots=True)
class CheckBlueprint:
    name: str
    server: str
    kind: str  # "tcp" | "http" | "ssh" | "sql"
    port: int
    path: str
    status: int
    contains: str | None
    timeout_seconds: int
    command: str | None = None  # ssh
    engine: str | None = None  # sql: "postgresql" | "mariadb"
    ssh: Ssh | None = None  # ssh: how the recovered server is logged in to


@dataclass(frozen=True, slots=True)
class ActionBlueprint:
    """One action; what its kind has no use for is None or empty."""

    name: str
    step: str  # as declared; the run's records are kept under it
    kind: str  # a value of `dr.model.ActionKind`
    timeout_seconds: int
    retries: int
    command: tuple[str, ...]  # script, command
    server: str | None  # command
    virtual_machine: str | None  # command
    address: str | None  # command
    port: int | None  # command: of SSH
    ssh: Ssh | None  # command: the protected server's own login, at another address
    url: str | None  # webhook
    url_from: SecretReference | None  # webhook
    instructions: str | None  # manual


@dataclass(frozen=True, slots=True)
class RecoveredDiskBlueprint:
    name: str  # the declared disk name
    managed_disk: str
    copy_blob: str  # blob in container `runs` that the managed disk is imported from
    lun: int | None  # None: the OS disk


@dataclass(frozen=True, slots=True)
class RecoveredServerBlueprint:
    server: str
    virtual_machine: str
    size: str
    generation: str  # "V1" | "V2"
    nic: str
    address: str
    subnet: str
    subnet_id_suffix: str  # "/resourceGroups/…/subnets/…", joined to the subscription by the program
    zone: str | None  # availability zone of VM and disks
    capacity_group_id_suffix: str | None  # where capacity is reserved for it, as `subnet_id_suffix`
    disks: tuple[RecoveredDiskBlueprint, ...]
    tags: Mapping[str, str]
    replication_group: ReplicationGroup | None = None


@dataclass(frozen=True, slots=True)
class ReplicationGroup:
    """Servers that share recovery points; all of them are in the plan."""

    name: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GroupBlueprint:
    servers: tuple[RecoveredServerBlueprint, ...]
    checks: tuple[CheckBlueprint, ...]
    before: tuple[ActionBlueprint, ...] = ()  # in order, before the servers start
    after: tuple[ActionBlueprint, ...] = ()  # in order, when all checks have passed


@dataclass(frozen=True, slots=True)
class FailoverBlueprint:
    plan: str
    run: str
    selector: str  # as `dr.vault.points.resolve` reads it
    resource_group: str  # of the run
    location: str
    storage_account: str
    storage_resource_group: str
    groups: tuple[GroupBlueprint, ...]
    tags: Mapping[str, str]
    kind: str = RunKind.FAILOVER.value
