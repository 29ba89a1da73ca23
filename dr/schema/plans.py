"""Checks of recovery plans: servers, groups, and health checks that could never pass. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dr.schema.document import Path
from dr.schema.findings import Finding, closest, quoted
from dr.schema.networks import subnets_by_name
from dr.schema.thing import Data, Estate, Thing, items

MAX_SERVERS = 100


def check_plans(estate: Estate) -> Iterator[Finding]:
    """Yield what is wrong with recovery plans beyond their shape."""
    for plan in estate.of("RecoveryPlan"):
        yield from _check_members(estate, plan)
        for index, group in items(plan.data.get("groups")):
            yield from _check_checks(estate, plan, index, group)


def _check_members(estate: Estate, plan: Thing) -> Iterator[Finding]:
    seen: dict[str, Path] = {}
    count = 0
    for group_index, group in items(plan.data.get("groups")):
        for index, name in _names(group):
            count += 1
            path: Path = ("groups", group_index, "servers", index)
            if not estate.known("Server", name):
                meant = closest(name, sorted(estate.names["Server"]))
                yield plan.finding(path, f"unknown server {quoted(name)}", meant)
            elif name in seen:
                first = f"first in group {int(seen[name][1]) + 1} at {plan.where(seen[name])}"
                yield plan.finding(path, f"server {quoted(name)} is in the plan twice ({first})")
            seen.setdefault(name, path)
    if count > MAX_SERVERS:
        yield plan.finding(("groups",), f"the plan has {count} servers; a recovery plan has at most {MAX_SERVERS}")


def _names(group: Data) -> Iterator[tuple[int, str]]:
    servers = group.get("servers")
    if isinstance(servers, list):
        yield from ((index, name) for index, name in enumerate(servers) if isinstance(name, str))


def _check_checks(estate: Estate, plan: Thing, group_index: int, group: Data) -> Iterator[Finding]:
    members = [name for _, name in _names(group)]
    seen: dict[tuple[object, ...], Path] = {}
    for index, check in items(group.get("checks")):
        path: Path = ("groups", group_index, "checks", index)
        server = check.get("server")
        if server is not None and "servers" in group and server not in members:
            yield _not_a_member(estate, plan, path, server, group_index, members)
        for kind in ("http", "tcp"):
            details = check.get(kind)
            if not isinstance(details, dict) or details.get("port") is None:
                continue
            if server is not None:
                yield from _closed_port(estate, plan, (*path, kind, "port"), server, details["port"])
            identity = (server, kind, details["port"], details.get("path"))
            if identity in seen:
                yield plan.finding(path, f"the same check is declared twice (first at {plan.where(seen[identity])})")
            seen.setdefault(identity, path)


def _not_a_member(
    estate: Estate, plan: Thing, path: Path, server: str, group_index: int, members: list[str]
) -> Finding:
    where = (*path, "server")
    for other_index, other in items(plan.data.get("groups")):
        if server in [name for _, name in _names(other)]:
            message = (
                f"check of {quoted(server)} in group {group_index + 1}, but the server is in group {other_index + 1}"
            )
            return plan.finding(where, message)
    if not estate.known("Server", server):
        meant = closest(server, members) or closest(server, sorted(estate.names["Server"]))
        return plan.finding(where, f"unknown server {quoted(server)}", meant)
    return plan.finding(where, f"check of {quoted(server)}, which is not in group {group_index + 1}")


def _closed_port(estate: Estate, plan: Thing, path: Path, name: str, port: int) -> Iterator[Finding]:
    server = estate.find("Server", name)
    subnet = subnets_by_name(estate).get(server.section("target").get("subnet", "")) if server is not None else None
    ports = subnet.get("inboundPorts") if subnet is not None else None
    if subnet is not None and isinstance(ports, list) and None not in ports and port not in ports:
        message = f'port {port} is closed: inboundPorts of subnet "{subnet["name"]}" lacks it'
        yield plan.finding(path, message)
