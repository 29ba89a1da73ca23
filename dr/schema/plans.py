"""Checks of recovery plans: servers, groups, and health checks that could never pass. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dr.schema.definition.plan import MAX_SERVERS
from dr.schema.document import Path
from dr.schema.durations import seconds
from dr.schema.findings import Finding, quoted, unknown
from dr.schema.targets import subnets_by_name
from dr.schema.thing import Data, Estate, Thing, items, names

CHECK_KINDS = ("http", "tcp", "ssh", "sql")
_SQL_PORTS = {"postgresql": 5432, "mariadb": 3306}


def check_plans(estate: Estate) -> Iterator[Finding]:
    """Yield what is wrong with recovery plans beyond their shape."""
    for plan in estate.of("RecoveryPlan"):
        yield from _check_members(estate, plan)
        yield from _check_objectives(estate, plan)
        for index, group in items(plan.data.get("groups")):
            yield from _check_checks(estate, plan, index, group)


def _check_members(estate: Estate, plan: Thing) -> Iterator[Finding]:
    seen: dict[str, Path] = {}
    count = 0
    for group_index, group in items(plan.data.get("groups")):
        for index, name in names(group.get("servers")):
            count += 1
            path: Path = ("groups", group_index, "servers", index)
            if not estate.known("Server", name):
                yield plan.finding(path, *unknown("server", name, estate.names["Server"]))
            elif name in seen:
                first = f"first in group {int(seen[name][1]) + 1} at {plan.where(seen[name])}"
                yield plan.finding(path, f"server {quoted(name)} is in the plan twice ({first}); take one out")
            seen.setdefault(name, path)
    if count > MAX_SERVERS:
        yield plan.finding(
            ("groups",), f"the plan has {count} servers; a recovery plan has at most {MAX_SERVERS}; make two plans"
        )


def _check_objectives(estate: Estate, plan: Thing) -> Iterator[Finding]:
    """Yield an objective that the members' policies can't keep."""
    rpo = plan.section("objectives").get("rpo")
    if rpo is None:
        return
    for name in plan.listed_servers():
        server = estate.find("Server", name)
        policy = estate.find("ReplicationPolicy", server.data.get("policy", "")) if server is not None else None
        every = policy.data.get("crashConsistentEvery") if policy is not None else None
        if policy is not None and every is not None and seconds(rpo) < seconds(every):
            message = (
                f"rpo {rpo} is shorter than crashConsistentEvery {every} of policy {quoted(policy.name)}, which server"
                f" {quoted(name)} has: it could not be kept; lengthen it, or make points more often"
            )
            yield plan.finding(("objectives", "rpo"), message)
            return


def _check_checks(estate: Estate, plan: Thing, group_index: int, group: Data) -> Iterator[Finding]:
    members = [name for _, name in names(group.get("servers"))]
    # With an unknown member the check's server may be meant by it.
    all_known = all(estate.known("Server", name) for name in members)
    seen: dict[tuple[object, ...], Path] = {}
    for index, check in items(group.get("checks")):
        path: Path = ("groups", group_index, "checks", index)
        server = check.get("server")
        if server is not None and "servers" in group and server not in members and all_known:
            yield _not_a_member(estate, plan, path, server, group_index, members)
        for kind in CHECK_KINDS:
            details = check.get(kind)
            port = port_of_check(details) if isinstance(details, dict) else None
            if not isinstance(details, dict) or port is None:
                continue
            if server is not None:
                yield from closed_port(estate, plan, (*path, kind, "port"), server, port)
            identity = (server, kind, port, details.get("path"), details.get("command"))
            if identity in seen:
                yield plan.finding(
                    path, f"the same check is declared twice (first at {plan.where(seen[identity])}); take one out"
                )
            seen.setdefault(identity, path)


def port_of_check(details: Data) -> int | None:
    """Return the port that a check of any kind asks; None when it was refused."""
    port: int | None = details.get("port", _SQL_PORTS.get(details.get("engine", "")))
    return port


def _not_a_member(
    estate: Estate, plan: Thing, path: Path, server: str, group_index: int, members: list[str]
) -> Finding:
    where = (*path, "server")
    for other_index, other in items(plan.data.get("groups")):
        if server in [name for _, name in names(other.get("servers"))]:
            message = (
                f"check of {quoted(server)} in group {group_index + 1}, but the server is in group {other_index + 1}"
            )
            return plan.finding(where, message, remedy="move it there")
    if not estate.known("Server", server):
        return plan.finding(where, *unknown("server", server, estate.names["Server"], members))
    message = (
        f"check of {quoted(server)}, which is not in group {group_index + 1}; add the server or take the check out"
    )
    return plan.finding(where, message)


def closed_port(estate: Estate, plan: Thing, path: Path, name: str, port: int) -> Iterator[Finding]:
    """Yield a port of a server that its subnet does not let in."""
    server = estate.find("Server", name)
    subnet = subnets_by_name(estate).get(server.section("target").get("subnet", "")) if server is not None else None
    ports = subnet.get("inboundPorts") if subnet is not None else None
    if subnet is not None and isinstance(ports, list) and None not in ports and port not in ports:
        message = f'port {port} is closed: inboundPorts of subnet "{subnet["name"]}" lacks it; add it there'
        yield plan.finding(path, message)
