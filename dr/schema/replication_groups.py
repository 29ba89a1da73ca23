"""Checks of replication groups: servers that share recovery points. Pure.

A group is no document of its own; it is made by the servers that name it. Its rules are Azure Site Recovery's: at
most 16 members, and no member is failed over without the others. That plans may start its members one after the other
is ours: the shared point is chosen once for the whole run.
"""

from __future__ import annotations

from collections.abc import Iterator

from dr.schema.findings import Finding, closest, quoted
from dr.schema.thing import Estate, Thing

MAX_MEMBERS = 16


def check_replication_groups(estate: Estate) -> Iterator[Finding]:
    """Yield what is wrong with each replication group, and with plans that tear one apart."""
    groups: dict[str, list[Thing]] = {}
    servers = list(estate.of("Server"))
    sure = "Server" not in estate.unsure and not any("group" in s.written() and "group" not in s.data for s in servers)
    for server in servers:
        name = server.data.get("group")
        if isinstance(name, str):
            groups.setdefault(name, []).append(server)
    for name, members in groups.items():
        if len(members) == 1 and sure:
            meant = closest(name, [other for other in groups if other != name])
            message = f"replication group {quoted(name)} has one member; write it for the others too, or leave it out"
            yield members[0].finding(("group",), message, meant)
        for server in members[MAX_MEMBERS:]:
            message = f"replication group {quoted(name)} has {len(members)} members; it may have {MAX_MEMBERS} at most"
            yield server.finding(("group",), message, remedy="make two groups")
        yield from _check_policy(name, members)
    yield from _check_plans(estate, groups)


def _check_policy(name: str, members: list[Thing]) -> Iterator[Finding]:
    """Yield the members whose points are made at other times than the first one's."""
    first = members[0]
    for server in members[1:]:
        policy, wanted = server.data.get("policy"), first.data.get("policy")
        if policy is not None and wanted is not None and policy != wanted:
            message = (
                f"policy {quoted(policy)} differs from {quoted(wanted)} of server {quoted(first.name)} at"
                f" {first.where(('policy',))}, which is in replication group {quoted(name)} too"
            )
            yield server.finding(("policy",), message, remedy="they share points, so give them one")


def _check_plans(estate: Estate, groups: dict[str, list[Thing]]) -> Iterator[Finding]:
    for plan in estate.of("RecoveryPlan"):
        listed = plan.listed_servers()
        if not all(estate.known("Server", server) for server in listed):  # the one that is missing may be meant
            continue
        for name, members in groups.items():
            there = [server for server in members if server.name in listed]
            missing = [quoted(server.name) for server in members if server.name not in listed]
            if there and missing:
                message = (
                    f"server {quoted(there[0].name)} is in replication group {quoted(name)}, and the plan lacks"
                    f" {', '.join(missing)} of it; its members are recovered together, add them"
                )
                yield plan.finding(listed[str(there[0].name)], message)
