"""What the programs register of a replication group: told to the site, asked of the server, chosen in a run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dr import compile as compiler
from dr.target.folders import LOCAL_SUBSCRIPTION
from stacks import failover, site
from tests.declaration.test_whole import declared, whole
from tests.stacks.mocked import Recorder, mocked


def registered(declaration: Any) -> Recorder:
    blueprint = compiler.site(declaration, LOCAL_SUBSCRIPTION)
    with mocked() as run:
        return run(lambda: site.program(blueprint, LOCAL_SUBSCRIPTION, gateway_secret="-"))


def test_a_group_is_told_to_the_site_and_its_port_asked_of_the_server() -> None:
    declaration = declared(whole())
    alone = replace(
        declaration, servers={name: replace(each, group=None) for name, each in declaration.servers.items()}
    )
    with_group, without = registered(declaration), registered(alone)
    (servers,) = with_group.of("dr:index:SiteServers").values()
    (before,) = without.of("dr:index:SiteServers").values()
    assert servers["servers"]["db1"].pop("group") == {
        "name": "shop",
        "address": "db1.harbour.example:20005",
        "port": 20005,
    }
    assert servers["servers"]["web1"].pop("group")["port"] == 20004
    assert servers == before
    ports = {name: made.pop("groupPort", None) for name, made in with_group.of("dr:index:Protection").items()}
    assert ports == {"db1": 20005, "db2": None, "web1": 20004}
    assert with_group.made.keys() == without.made.keys()


def test_the_members_of_a_group_choose_together() -> None:
    declaration = declared(whole())
    (plan,) = declaration.plans
    blueprint = compiler.failover(declaration, plan, "r1", "latest-group", LOCAL_SUBSCRIPTION)
    with mocked() as run:
        made = run(lambda: failover.program(blueprint, LOCAL_SUBSCRIPTION))
    points = {name: each.get("replicationGroup") for name, each in made.of("dr:index:RecoveryPoint").items()}
    shared = {"name": "shop", "members": ["db1", "web1"]}
    assert points == {"point-db1": shared, "point-db2": None, "point-web1": shared}
