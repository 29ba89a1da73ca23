"""Declarations that the programs are run on: a small one, and full ones in which every field is set."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dr.model import declaration as model
from dr.schema import load

SUBSCRIPTION = "3f2b1c5e-7a64-4c1d-9d5b-0a1b2c3d4e5f"
HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFqQGZfObRoABjBxiZVU26D65DtuZ0jWDpGyFBzlIRUE"


def small() -> model.Declaration:
    """Return the example estate of the checkout."""
    return load(Path(__file__).parents[2] / "plans")


def full() -> model.Declaration:
    """Return an estate of two servers with every field set; its gateway is a VPN's."""
    return model.Declaration(_site(), {"strict": _policy()}, {one.name: one for one in _servers()}, {"shop": _plan()})


def by_express_route() -> model.Declaration:
    """Return the full estate with the other kind of gateway."""
    estate = full()
    gateway = model.Gateway(
        model.GatewayKind.EXPRESS_ROUTE,
        sku="ErGw1AZ",
        prefix="10.20.254.0/27",
        circuit=f"/subscriptions/{SUBSCRIPTION}/resourceGroups/net/providers/Microsoft.Network/expressRouteCircuits/c1",
        authorization=model.SecretReference(env="CIRCUIT_KEY"),
    )
    return replace(estate, site=replace(estate.site, gateway=gateway))


def unset(thing: Any, path: str = "") -> Iterator[str]:
    """Yield the fields of a declaration that say nothing, so that a field which is new to the model is noticed."""
    if dataclasses.is_dataclass(thing):
        if isinstance(thing, model.SecretReference):
            return  # exactly one of its fields is set
        for one in dataclasses.fields(thing):
            yield from unset(getattr(thing, one.name), f"{path}.{one.name}")
    elif isinstance(thing, tuple | Mapping):
        parts = thing.values() if isinstance(thing, Mapping) else thing
        if not parts:
            yield path
        found = [set(unset(part, path)) for part in parts]
        yield from set.intersection(*found) if found else ()  # of alternatives, each must be set once
    elif thing is None or thing == "":
        yield path


def _site() -> model.Site:
    return model.Site(
        name="harbour",
        location="westeurope",
        subscription=SUBSCRIPTION,
        network=model.Network(
            "10.20.0.0/16",
            (model.Subnet("front", "10.20.1.0/24", (22, 443)), model.Subnet("back", "10.20.2.0/24", (5432,))),
        ),
        configuration_server=model.ConfigurationServer("10.1.0.4", 443),
        process_servers=(model.ProcessServer("ps1", "10.1.0.5", 9443), model.ProcessServer("ps2", "10.1.0.6", 9443)),
        target="azure",
        resource_groups=model.ResourceGroups("rg-keep", "rg-land"),
        drill_network=model.Network(
            "10.99.0.0/16",
            (model.Subnet("front", "10.99.1.0/24", (22, 443)), model.Subnet("back", "10.99.2.0/24", (5432,))),
        ),
        endpoints=model.Endpoints.PRIVATE,
        gateway=model.Gateway(
            model.GatewayKind.VPN,
            sku="VpnGw1AZ",
            prefix="10.20.254.0/27",
            peer_address="203.0.113.7",
            site_prefixes=("10.1.0.0/16",),
            shared_key=model.SecretReference(env="VPN_KEY"),
        ),
        private_dns_zone="shop.example.internal",
        bastion=model.Bastion("10.20.253.0/26"),
        capacity_reservation=True,
        budget=model.Budget(500, "2026-12-01"),
        alerts=("oncall@example.org",),
    )


def _policy() -> model.ReplicationPolicy:
    return model.ReplicationPolicy("strict", 1800, 86400, 300, 3600)


def _servers() -> Iterator[model.Server]:
    jump = model.JumpHost("10.1.0.2", 22, "jump", "~/.ssh/jump", None, HOST_KEY)
    by_key = model.Ssh("10.1.0.10", 22, "dradmin", "~/.ssh/key", None, HOST_KEY, None, None, jump)
    password = model.SecretReference(key_store="ssh-db1")
    by_password = model.Ssh("10.1.0.11", 2222, "dradmin", None, None, HOST_KEY, password, password, jump)
    by_variable = replace(by_key, key_file=None, key_env="LIFEBOAT_SSH_KEY", jump=replace(jump, key_env="JUMP_KEY"))
    for number, (name, ssh, firmware) in enumerate(
        (
            ("web1", by_key, model.Firmware.UEFI),
            ("db1", by_password, model.Firmware.BIOS),
            ("db2", by_variable, model.Firmware.UEFI),
        )
    ):
        yield model.Server(
            name=name,
            ssh=ssh,
            policy="strict",
            disks=(model.Disk("os", f"/dev/disk/by-id/{name}-os"), model.Disk("data", f"/dev/disk/by-id/{name}-data")),
            target=model.Target(
                f"vm-{name}", "Standard_D2s_v5", "back", f"10.20.2.{10 + number}", firmware, {"service": "shop"}, "1"
            ),
            group="shop",
            boot_preparation=model.BootPreparation.SOURCE,
        )


def _plan() -> model.RecoveryPlan:
    checks = (
        model.HealthCheck("web1", "http", 443, "/health", 200, "ok", 600),
        model.HealthCheck("web1", "ssh", 22, "/", 0, None, 600, command="systemctl is-system-running"),
        model.HealthCheck("db1", "sql", 5432, "/", 0, None, 600, engine="postgresql"),
        model.HealthCheck("db2", "tcp", 5432, "/", 0, None, 600),
    )
    every = tuple(model.RunKind)
    actions = (
        model.Action("tell", model.ActionKind.WEBHOOK, every, 60, 1, url="https://example.org/hook"),
        model.Action("ask", model.ActionKind.MANUAL, every, 60, 1, instructions="look at the till"),
        model.Action("run", model.ActionKind.COMMAND, every, 60, 1, server="db1", command=("true",)),
        model.Action("script", model.ActionKind.SCRIPT, every, 60, 1, command=("./after.sh",)),
    )
    groups = (
        model.PlanGroup(("db1", "db2"), checks[2:], before=actions, after=actions),
        model.PlanGroup(("web1",), checks[:2], before=actions, after=actions),
    )
    return model.RecoveryPlan("shop", groups, model.Objectives(900, 1800, 30 * 86400))
