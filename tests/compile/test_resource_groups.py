"""Declared names of resource groups: whoever derives a name that lies in one of them respects it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from dr import compile as compiler
from dr.model import Declaration, ResourceGroups
from dr.schema import load

CHECKOUT = Path(__file__).parents[2]
SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"


def declared(groups: ResourceGroups) -> Declaration:
    declaration = load(CHECKOUT / "plans")
    return dataclasses.replace(declaration, site=dataclasses.replace(declaration.site, resource_groups=groups))


def test_undeclared_names_are_made_from_the_sites() -> None:
    declaration = declared(ResourceGroups())
    assert compiler.vault(declaration, SUBSCRIPTION).resource_group == "rg-lifeboat-harbour-vault"
    assert compiler.site(declaration, SUBSCRIPTION).resource_group == "rg-lifeboat-harbour-site"


def test_declared_names_are_respected_by_all_three_stacks() -> None:
    declaration = declared(ResourceGroups(vault="rg-prod-dr-vault", site="rg-prod-dr-network"))
    assert compiler.vault(declaration, SUBSCRIPTION).resource_group == "rg-prod-dr-vault"
    assert compiler.site(declaration, SUBSCRIPTION).resource_group == "rg-prod-dr-network"
    run = compiler.failover(declaration, "shop", "r1", "latest", SUBSCRIPTION)
    assert run.storage_resource_group == "rg-prod-dr-vault"
    (server,) = run.groups[0].servers
    network = "/providers/Microsoft.Network/virtualNetworks/vnet-harbour/subnets/shop"
    assert server.subnet_id_suffix == f"/resourceGroups/rg-prod-dr-network{network}"
