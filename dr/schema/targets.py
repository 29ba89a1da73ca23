"""Checks of what recovered servers are like: subnet, address, name, size, disks and tags. Pure.

The first four addresses of a subnet and the last one are Azure's own (Microsoft Learn, "Azure Virtual Network
frequently asked questions").
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from dr.schema.addresses import parse_address, parse_network
from dr.schema.document import Path
from dr.schema.findings import Finding, quoted, unknown
from dr.schema.thing import Data, Estate, Thing, items
from dr.schema.vm_sizes import most_data_disks, wrong_with_size


def check_targets(estate: Estate) -> Iterator[Finding]:
    """Yield what is wrong with the targets of the servers beyond their shape."""
    used: dict[IPv4Address, Thing] = {}
    machines: dict[str, Thing] = {}
    subnets = subnets_by_name(estate)
    for server in estate.of("Server"):
        target = server.section("target")
        name = target.get("subnet")
        if name is not None and not estate.known("subnet", name):
            yield server.finding(("target", "subnet"), *unknown("subnet", name, estate.names["subnet"]))
        yield from _check_address(server, target.get("address"), subnets.get(name or ""), used)
        yield from _check_name(server, machines)
        yield from _check_size(server, target)
        yield from _check_tags(server, target)


def subnets_by_name(estate: Estate) -> dict[str, Data]:
    """Return the production subnets of the first site that has any."""
    for site in estate.of("Site"):
        found = {s["name"]: s for _, s in reversed(list(items(site.section("network").get("subnets")))) if "name" in s}
        if found:
            return dict(reversed(found.items()))
    return {}


def _check_address(
    server: Thing, text: object, subnet: Data | None, used: dict[IPv4Address, Thing]
) -> Iterator[Finding]:
    path: Path = ("target", "address")
    address, wrong = parse_address(text)
    if wrong:
        yield server.finding(path, f"address {wrong}")
    if address is None:
        return
    if address in used:
        other = used[address]
        message = (
            f'address {address} is used twice (first by server "{other.name}" at {other.where(path)}); choose another'
        )
        yield server.finding(path, message)
    used.setdefault(address, server)
    prefix, _ = parse_network(subnet.get("prefix")) if subnet is not None else (None, "")
    if subnet is None or prefix is None:
        return
    name = subnet.get("name")
    free = f"take one from {prefix.network_address + 4} to {prefix.broadcast_address - 1}"
    if address not in prefix:
        yield server.finding(path, f'address {address} lies outside subnet "{name}" {prefix}; {free}')
    elif int(address) - int(prefix.network_address) < 4 or address == prefix.broadcast_address:
        message = f'address {address} is one of the five that Azure keeps in subnet "{name}" {prefix}; {free}'
        yield server.finding(path, message)


def _check_name(server: Thing, machines: dict[str, Thing]) -> Iterator[Finding]:
    name = server.section("target").get("name") or server.name
    if not isinstance(name, str) or "target" not in server.data:
        return
    if name in machines:
        other = machines[name]
        place = other.where(("target", "name"))
        message = (
            f'target name {quoted(name)} is used twice (first by server "{other.name}" at {place}); choose another'
        )
        # Two servers of one name are reported as such.
        if other.name != server.name:
            yield server.finding(("target", "name"), message)
    machines.setdefault(name, server)


def _check_size(server: Thing, target: Data) -> Iterator[Finding]:
    size = target.get("size")
    if size is None:
        return
    wrong = wrong_with_size(size, target.get("firmware"))
    if wrong:
        yield server.finding(("target", "size"), wrong)
    disks, most = server.data.get("disks"), most_data_disks(size)
    if isinstance(disks, list) and most is not None and len(disks) - 1 > most:
        message = (
            f"size {size} takes {most} data disks at most, and the server has {len(disks) - 1} beside the one it boots"
            " from; take a larger size"
        )
        yield server.finding(("target", "size"), message)


def _check_tags(server: Thing, target: Data) -> Iterator[Finding]:
    lower: dict[str, str] = {}
    for key in target.get("tags", {}):
        # Azure's tag names don't know case: the second would replace the first.
        if key.lower() in lower:
            message = f"tag {quoted(key)} is given already as {quoted(lower[key.lower()])}"
            remedy = "case makes no difference, take one out"
            yield server.document.finding(("target", "tags", key), f"{message}; {remedy}", at_key=True)
        lower.setdefault(key.lower(), key)
