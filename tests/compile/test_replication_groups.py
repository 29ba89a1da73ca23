"""What comes of a server's `group`: where members reach each other, and what a run chooses that is told nothing."""

from __future__ import annotations

from dataclasses import replace

from dr.compile import default_selector, failover, site
from dr.compile.blueprint import MembershipBlueprint, ReplicationGroup
from dr.model import Declaration
from tests.declaration.test_whole import declared, whole

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"


def ungrouped(declaration: Declaration) -> Declaration:
    servers = {name: replace(server, group=None) for name, server in declaration.servers.items()}
    return replace(declaration, servers=servers)


def test_members_are_reached_at_their_own_address_and_port() -> None:
    made = {each.server: each.group for each in site(declared(whole()), SUBSCRIPTION).protections}
    assert made == {
        "db1": MembershipBlueprint("shop", "db1.harbour.example:20005", 20005),
        "db2": None,
        "web1": MembershipBlueprint("shop", "192.0.2.11:20004", 20004),
    }


def test_a_plan_with_a_group_takes_what_it_shares_and_another_one_each_its_newest() -> None:
    declaration = declared(whole())
    (plan,) = declaration.plans
    assert default_selector(declaration, plan) == "latest-group"
    assert default_selector(ungrouped(declaration), plan) == "latest"
    assert default_selector(declaration, "none") == "latest"
    servers = [s for group in failover(declaration, plan, "r1", "latest", SUBSCRIPTION).groups for s in group.servers]
    shared = ReplicationGroup("shop", ("db1", "web1"))
    assert {s.server: s.replication_group for s in servers} == {"db1": shared, "db2": None, "web1": shared}
