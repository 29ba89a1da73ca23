"""Dataclasses of the declaration, one per thing a person declares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Firmware(Enum):
    """How the source boots; decides the generation of the recovered VM (bios: Gen1, uefi: Gen2)."""

    BIOS = "bios"
    UEFI = "uefi"


@dataclass(frozen=True, slots=True)
class Subnet:
    """One subnet of the production network; `inbound_ports` are the TCP ports its security group lets in."""

    name: str
    prefix: str
    inbound_ports: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Network:
    address_space: str
    subnets: tuple[Subnet, ...]


@dataclass(frozen=True, slots=True)
class ConfigurationServer:
    """Where agents and operators reach the configuration server."""

    address: str
    port: int  # default 443


@dataclass(frozen=True, slots=True)
class ProcessServer:
    """Where agents send replication data."""

    name: str
    address: str
    port: int  # default 9443


@dataclass(frozen=True, slots=True)
class Site:
    name: str
    location: str  # Azure region
    subscription: str | None  # for target azure; target local has its own
    network: Network
    configuration_server: ConfigurationServer
    process_servers: tuple[ProcessServer, ...]


@dataclass(frozen=True, slots=True)
class ReplicationPolicy:
    name: str
    rpo_threshold_seconds: int  # default 3600
    retention_seconds: int  # default 86400, 0 to 15 days
    crash_consistent_seconds: int  # default 300, 60 to 3600


@dataclass(frozen=True, slots=True)
class Ssh:
    """How the agent is pushed. Exactly one of `key_file` and `key_env` is set; the key itself is never here."""

    address: str
    port: int
    user: str
    key_file: str | None  # path, relative to the declaration's folder or absolute, `~` allowed
    key_env: str | None  # name of an environment variable that holds the path of the key file
    host_key: str  # "ssh-ed25519 AAAA…", pinned


@dataclass(frozen=True, slots=True)
class Disk:
    """A protected disk by a stable identity (`/dev/disk/by-id/NAME`, or `/dev/NAME` where the source has none)."""

    name: str  # the word used in blobs and status, for example "os"
    device: str


@dataclass(frozen=True, slots=True)
class Target:
    """What the recovered VM is like."""

    name: str
    size: str  # Azure VM size
    subnet: str
    address: str
    firmware: Firmware
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    ssh: Ssh
    policy: str
    disks: tuple[Disk, ...]
    target: Target


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """`kind` is "tcp" or "http"; http wants `path` and passes on `status`, and on `contains` when given."""

    server: str
    kind: str
    port: int
    path: str
    status: int
    contains: str | None
    timeout_seconds: int


@dataclass(frozen=True, slots=True)
class PlanGroup:
    """Servers that start in parallel; the next group starts when all `checks` pass."""

    servers: tuple[str, ...]
    checks: tuple[HealthCheck, ...]


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    name: str
    groups: tuple[PlanGroup, ...]


@dataclass(frozen=True, slots=True)
class Declaration:
    """Everything under `plans/`, cross-checked: every name that is referred to exists."""

    site: Site
    policies: Mapping[str, ReplicationPolicy]
    servers: Mapping[str, Server]
    plans: Mapping[str, RecoveryPlan]
