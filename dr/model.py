"""The declaration as frozen data: what a person wrote, checked and completed with defaults; one class per thing.

Built only by `dr.schema`; pure; no choice of names or addresses in Azure is made here (that is `dr.compile`).
Durations are whole seconds, sizes bytes, addresses strings that `dr.schema` has checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

FAILBACK_SUFFIX = "-failback"


class Firmware(Enum):
    """How the source boots; decides the generation of the recovered VM (bios: Gen1, uefi: Gen2)."""

    BIOS = "bios"
    UEFI = "uefi"


class Endpoints(Enum):
    """How agents and process servers reach the vault's storage."""

    PUBLIC = "public"
    PRIVATE = "private"


class Redundancy(Enum):
    """How often and where Azure keeps each byte of the vault's storage; standard accounts only.

    A premium account takes 100 snapshots of a page blob at most, and each recovery point is one.
    """

    LOCAL = "LRS"
    ZONE = "ZRS"
    GEO = "GRS"
    GEO_ZONE = "GZRS"


class GatewayKind(Enum):
    """The way home for failback."""

    VPN = "vpn"
    EXPRESS_ROUTE = "expressRoute"


class BootPreparation(Enum):
    """Who makes the disk fit for booting in Azure: the source itself, with its owner's consent, or the copy."""

    SOURCE = "source"
    OFFLINE = "offline"


class ActionKind(Enum):
    """What an action of a recovery plan is."""

    SCRIPT = "script"  # on the machine that runs the plan
    COMMAND = "command"  # on a recovered VM
    WEBHOOK = "webhook"
    MANUAL = "manual"  # waits for `dr approve`


class RunKind(Enum):
    """The runs that a recovery plan can be executed as."""

    DRILL = "drill"
    FAILOVER = "failover"
    PLANNED_FAILOVER = "planned-failover"
    FAILBACK = "failback"


@dataclass(frozen=True, slots=True)
class SecretReference:
    """Where a secret is found when it is needed, never the secret itself. Exactly one is set."""

    env: str | None = None  # name of an environment variable that holds it
    file: str | None = None  # path of a file that holds it, as paths of keys are written
    key_store: str | None = None  # its name in the site's key store


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
class ResourceGroups:
    """Names of the two standing resource groups, where a company has rules for them; None: made from the site's."""

    vault: str | None = None
    site: str | None = None


@dataclass(frozen=True, slots=True)
class Storage:
    """The account that replicas and recovery points live in."""

    redundancy: Redundancy = Redundancy.LOCAL


@dataclass(frozen=True, slots=True)
class Gateway:
    """The gateway that failback data comes home through. `vpn` has a peer, `expressRoute` a circuit."""

    kind: GatewayKind
    sku: str  # VpnGw1AZ…, ErGw1AZ…
    prefix: str  # of the subnet GatewaySubnet, /27 or larger
    peer_address: str | None = None  # vpn: public address of the site's device
    site_prefixes: tuple[str, ...] = ()  # vpn: networks behind it
    shared_key: SecretReference | None = None  # vpn
    circuit: str | None = None  # expressRoute: resource id of the circuit
    authorization: SecretReference | None = None  # expressRoute: key, for a circuit of another subscription


@dataclass(frozen=True, slots=True)
class Bastion:
    """Azure Bastion in the production network."""

    prefix: str  # of the subnet AzureBastionSubnet, /26 or larger


@dataclass(frozen=True, slots=True)
class Budget:
    """A monthly budget on the site's resource group; alerts go where `alerts` of the site go."""

    monthly_amount: int  # in the subscription's currency
    starts: str  # first day of a month, YYYY-MM-01: Azure wants it, and a clock must not be asked


@dataclass(frozen=True, slots=True)
class Site:
    name: str
    location: str  # Azure region
    subscription: str | None  # for target azure; target local has its own
    network: Network
    configuration_server: ConfigurationServer
    process_servers: tuple[ProcessServer, ...]
    target: str = "local"  # "local" | "azure": which one commands mean when they are not told
    resource_groups: ResourceGroups = ResourceGroups()
    drill_network: Network | None = None
    endpoints: Endpoints = Endpoints.PUBLIC
    storage: Storage = Storage()
    gateway: Gateway | None = None
    private_dns_zone: str | None = None  # "shop.example.internal": a zone that recovered servers are entered in
    bastion: Bastion | None = None
    capacity_reservation: bool = False  # reserve the sizes of all servers
    budget: Budget | None = None
    alerts: tuple[str, ...] = ()  # e-mail addresses of the action group


@dataclass(frozen=True, slots=True)
class TrafficWindow:
    """A part of the week with limits of its own. `end` at or before `start` is on the next day."""

    days: tuple[int, ...]  # on which it starts, 0 is Monday
    start_minute: int  # of the day, 0 to 1439
    end_minute: int
    bandwidth_bytes_per_second: int | None  # None: unlimited
    resync: bool  # False: a resync waits for the window's end


@dataclass(frozen=True, slots=True)
class Traffic:
    """What replication may take of the network, and when; the first window that holds the time counts."""

    timezone: str = "UTC"  # a name of the time-zone database
    bandwidth_bytes_per_second: int | None = None  # outside of all windows; None: unlimited
    windows: tuple[TrafficWindow, ...] = ()


@dataclass(frozen=True, slots=True)
class ReplicationPolicy:
    name: str
    rpo_threshold_seconds: int  # default 3600
    retention_seconds: int  # default 86400, 0 to 15 days
    crash_consistent_seconds: int  # default 300, 60 to 3600
    app_consistent_seconds: int | None = None  # default off; 1 to 12 hours, less than the retention
    traffic: Traffic = Traffic()
    verify_seconds: int = 7 * 86400  # 1 to 90 days; 0: no verification pass by itself

    @property
    def failback(self) -> ReplicationPolicy:
        """The policy of the way home, made by itself and not declarable; its figures are Azure Site Recovery's."""
        return ReplicationPolicy(
            name=f"{self.name}{FAILBACK_SUFFIX}",
            rpo_threshold_seconds=15 * 60,
            retention_seconds=24 * 3600,
            crash_consistent_seconds=5 * 60,
            app_consistent_seconds=60 * 60,
        )


@dataclass(frozen=True, slots=True)
class JumpHost:
    """A host that the connection to the server goes through."""

    address: str
    port: int
    user: str
    key_file: str | None
    key_env: str | None
    host_key: str


@dataclass(frozen=True, slots=True)
class Ssh:
    """How the agent is pushed. Exactly one of `key_file`, `key_env` and `password` is set; no secret is ever here."""

    address: str
    port: int
    user: str
    key_file: str | None  # path, relative to the declaration's folder or absolute, `~` allowed
    key_env: str | None  # name of an environment variable that holds the path of the key file
    host_key: str  # "ssh-ed25519 AAAA…", pinned
    password: SecretReference | None = None
    sudo_password: SecretReference | None = None  # None: sudo asks for none
    jump: JumpHost | None = None


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
    zone: str | None = None  # availability zone, "1" to "3"


@dataclass(frozen=True, slots=True)
class Application:
    """What is asked before an application-consistent cut: a drop-in, or scripts as program and arguments."""

    name: str
    timeout_seconds: int = 30
    use: str | None = None  # "postgresql" | "mariadb"; else `pre` and `post`
    settings: str | None = None  # a drop-in's: path on the server, of the database's own file
    pre: tuple[str, ...] = ()
    post: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Server:
    name: str
    ssh: Ssh
    policy: str
    disks: tuple[Disk, ...]
    target: Target
    group: str | None = None  # replication group: servers of one group share recovery points
    boot_preparation: BootPreparation = BootPreparation.OFFLINE
    group_address: str | None = None  # where the other members reach it; None: ssh.address
    group_port: int = 20004  # where it listens for the group's coordinator
    applications: tuple[Application, ...] = ()  # in the order in which they are asked


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """`kind` is "tcp", "http", "ssh" or "sql".

    http wants `path` and passes on `status`, and on `contains` when given; ssh runs `command` and passes on exit
    code 0; sql pings the `engine`.
    """

    server: str
    kind: str
    port: int
    path: str
    status: int
    contains: str | None
    timeout_seconds: int
    command: str | None = None  # ssh
    engine: str | None = None  # sql: "postgresql" | "mariadb"


@dataclass(frozen=True, slots=True)
class Action:
    """One step before or after a group; it takes part in the runs of `runs` only."""

    name: str
    kind: ActionKind
    runs: tuple[RunKind, ...]
    timeout_seconds: int
    retries: int
    server: str | None = None  # command: the recovered VM it runs on
    port: int = 22  # command: SSH port there
    command: tuple[str, ...] = ()  # script and command: program and arguments
    url: str | None = None  # webhook: its address, or `url_from` where the address is a secret itself
    url_from: SecretReference | None = None
    instructions: str | None = None  # manual: what the person has to do


@dataclass(frozen=True, slots=True)
class PlanGroup:
    """Servers that start in parallel; the next group starts when all `checks` pass."""

    servers: tuple[str, ...]
    checks: tuple[HealthCheck, ...]
    before: tuple[Action, ...] = ()
    after: tuple[Action, ...] = ()


@dataclass(frozen=True, slots=True)
class Objectives:
    """What the plan is held to; None: not said."""

    rpo_seconds: int | None = None
    rto_seconds: int | None = None
    drill_every_seconds: int | None = None  # the newest passed drill may not be older


@dataclass(frozen=True, slots=True)
class RecoveryPlan:
    name: str
    groups: tuple[PlanGroup, ...]
    objectives: Objectives = Objectives()


@dataclass(frozen=True, slots=True)
class Declaration:
    """Everything under `plans/`, cross-checked: every name that is referred to exists."""

    site: Site
    policies: Mapping[str, ReplicationPolicy]
    servers: Mapping[str, Server]
    plans: Mapping[str, RecoveryPlan]
