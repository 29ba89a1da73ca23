"""The landing zone as a blueprint: networks, the ways in and out of them, what is reserved, and who is told.

What a declaration leaves out is None or empty here, and the program makes nothing for it.
"""

from __future__ import annotations

from dataclasses import dataclass

from dr.compile.security import SecurityRule
from dr.model import GatewayKind, SecretReference


@dataclass(frozen=True, slots=True)
class SubnetBlueprint:
    """One subnet. A subnet of Azure's own (Bastion's, the gateway's) keeps Azure's default for outbound access."""

    name: str
    prefix: str
    security_group: str | None = None  # None: GatewaySubnet, which must have none
    rules: tuple[SecurityRule, ...] = ()
    nat_gateway: bool = False
    default_outbound_access: bool | None = False  # None: as Azure has it


@dataclass(frozen=True, slots=True)
class NetworkBlueprint:
    """A virtual network; `subnets` are made in this order, one after the other."""

    name: str
    address_space: str
    subnets: tuple[SubnetBlueprint, ...]


@dataclass(frozen=True, slots=True)
class NatBlueprint:
    gateway: str
    public_address: str


@dataclass(frozen=True, slots=True)
class PrivateZoneBlueprint:
    zone: str
    link: str  # of the production network; the drill's is never linked


@dataclass(frozen=True, slots=True)
class BastionBlueprint:
    host: str
    public_address: str
    subnet: SubnetBlueprint


@dataclass(frozen=True, slots=True)
class GatewayBlueprint:
    """The way home. `peer` and what follows is of vpn, `circuit` of expressRoute."""

    kind: GatewayKind
    gateway: str
    sku: str
    public_address: str
    zones: tuple[str, ...]  # of the public address; empty: the gateway's size has none
    subnet: SubnetBlueprint
    connection: str
    secret: SecretReference | None  # shared key of vpn, authorization of expressRoute
    secret_stands_at: str  # in the declaration, for messages
    peer: str | None = None  # name of the local network gateway
    peer_address: str | None = None
    site_prefixes: tuple[str, ...] = ()
    circuit: str | None = None


@dataclass(frozen=True, slots=True)
class ReservationBlueprint:
    name: str
    size: str
    count: int


@dataclass(frozen=True, slots=True)
class CapacityBlueprint:
    """A reservation group of one zone, or of the region: Azure lets none hold both."""

    group: str
    zone: str | None
    reservations: tuple[ReservationBlueprint, ...]


@dataclass(frozen=True, slots=True)
class BudgetBlueprint:
    name: str
    monthly_amount: int
    starts: str  # as Azure gives it back: 2026-11-01T00:00:00Z


@dataclass(frozen=True, slots=True)
class AlertBlueprint:
    """An alert on Azure's activity log; with `operations` one of them has to be what happened."""

    name: str
    description: str
    scope: str  # behind /subscriptions/ID
    category: str
    operations: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WatchBlueprint:
    """Who is told (`addresses`), of what (`alerts`), and where the landing zone's own logs go."""

    action_group: str
    addresses: tuple[str, ...]
    workspace: str
    alerts: tuple[AlertBlueprint, ...]


@dataclass(frozen=True, slots=True)
class ZoneBlueprint:
    production: NetworkBlueprint
    nat: NatBlueprint
    drill: NetworkBlueprint | None
    private_zone: PrivateZoneBlueprint | None
    bastion: BastionBlueprint | None
    gateway: GatewayBlueprint | None
    capacity: tuple[CapacityBlueprint, ...]
    budget: BudgetBlueprint | None
    watch: WatchBlueprint | None
