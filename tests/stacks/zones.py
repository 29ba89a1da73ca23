"""Declarations of landing zones: the checkout's estate with everything optional that a site can declare."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from dr import compile as compiler
from dr.model import (
    Bastion,
    Budget,
    Declaration,
    Gateway,
    GatewayKind,
    Network,
    SecretReference,
    Server,
    Site,
    Subnet,
)
from dr.schema import load
from dr.target.folders import LOCAL_SUBSCRIPTION
from stacks import site
from tests.stacks.mocked import Recorder, mocked

SECRET = "what the reference leads to"
CHECKOUT = Path(__file__).parents[2]
SHARED_KEY = SecretReference(env="LIFEBOAT_TEST_SHARED_KEY")
CIRCUIT = (
    "/subscriptions/99999999-2222-4333-8444-555555555555/resourceGroups/rg-wan"
    "/providers/Microsoft.Network/expressRouteCircuits/harbour"
)
VPN = Gateway(
    kind=GatewayKind.VPN,
    sku="VpnGw1AZ",
    prefix="10.20.255.0/27",
    peer_address="203.0.113.7",
    site_prefixes=("192.168.10.0/24", "192.168.11.0/24"),
    shared_key=SHARED_KEY,
)
EXPRESS_ROUTE = Gateway(
    kind=GatewayKind.EXPRESS_ROUTE, sku="ErGw1AZ", prefix="10.20.255.0/27", circuit=CIRCUIT, authorization=SHARED_KEY
)
OPTIONS: dict[str, Any] = {
    "drill_network": Network(
        "10.30.0.0/16", (Subnet("shop", "10.30.1.0/24", (22,)), Subnet("db", "10.30.2.0/24", (5432,)))
    ),
    "gateway": VPN,
    "private_dns_zone": "shop.example.internal",
    "bastion": Bastion("10.20.254.0/26"),
    "capacity_reservation": True,
    "budget": Budget(900, "2026-11-01"),
    "alerts": ("ops@example.com", "boss@example.com"),
}

NOTHING: dict[str, Any] = {field: () if field == "alerts" else None for field in OPTIONS} | {
    "capacity_reservation": False
}


def registered(declaration: Declaration) -> Recorder:
    """Return what the site's program registers for a declaration."""
    blueprint = compiler.site(declaration, LOCAL_SUBSCRIPTION)
    with mocked() as run:
        return run(lambda: site.program(blueprint, LOCAL_SUBSCRIPTION, gateway_secret=SECRET))


def plain() -> Declaration:
    """Return the checkout's estate with a second subnet and three servers, and nothing optional."""
    declaration = load(CHECKOUT / "plans")
    shop1 = declaration.servers["shop1"]
    servers = {
        "shop1": shop1,
        "shop2": _server(shop1, "shop2", "10.20.1.11", "1"),
        "shop3": _server(shop1, "shop3", "10.20.1.12", None),
    }
    subnets = (*declaration.site.network.subnets, Subnet("db", "10.20.2.0/24", (5432,)))
    network = dataclasses.replace(declaration.site.network, subnets=subnets)
    return dataclasses.replace(with_site(declaration, network=network, **NOTHING), servers=servers)


def full(**changed: Any) -> Declaration:
    """Return `plain` with everything optional, and the site's fields in `changed` as they are given."""
    return with_site(plain(), **{**OPTIONS, **changed})


def with_site(declaration: Declaration, **changed: Any) -> Declaration:
    site: Site = dataclasses.replace(declaration.site, **changed)
    return dataclasses.replace(declaration, site=site)


def _server(like: Server, name: str, address: str, zone: str | None) -> Server:
    target = dataclasses.replace(like.target, name=name, address=address, zone=zone)
    return dataclasses.replace(like, name=name, target=target)
