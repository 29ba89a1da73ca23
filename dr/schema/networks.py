"""Checks of addresses: the network, its subnets, and where recovered servers are put. Pure.

Azure's rules: a virtual network and its subnets have /29 at the smallest; the first four addresses and the last one
of a subnet are Azure's own; some ranges can't be used at all (Microsoft Learn, "Azure Virtual Network frequently
asked questions").
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from dr.schema.document import Path
from dr.schema.findings import Finding, closest, quoted
from dr.schema.thing import Data, Estate, Thing, items

LARGEST, SMALLEST = 8, 29  # prefix lengths
_UNUSABLE = [
    (IPv4Network("224.0.0.0/4"), "multicast"),
    (IPv4Network("255.255.255.255/32"), "broadcast"),
    (IPv4Network("127.0.0.0/8"), "loopback"),
    (IPv4Network("169.254.0.0/16"), "link-local"),
    (IPv4Network("168.63.129.16/32"), "Azure's own DNS and health probes"),
]


@dataclass(frozen=True, slots=True)
class _Subnet:
    index: int
    name: str
    network: IPv4Network


def check_networks(estate: Estate) -> Iterator[Finding]:
    """Yield what is wrong with the network of each site and with the targets of the servers."""
    for site in estate.of("Site"):
        yield from _check_network(site)
    yield from _check_targets(estate)


def _check_network(site: Thing) -> Iterator[Finding]:
    network = site.section("network")
    space, wrong = _network(network.get("addressSpace"))
    if wrong:
        yield site.finding(("network", "addressSpace"), f"addressSpace {wrong}")
    first: dict[str, int] = {}
    placed: list[_Subnet] = []
    for index, subnet in items(network.get("subnets")):
        path: Path = ("network", "subnets", index)
        name = subnet.get("name")
        if name is not None and name in first:
            place = site.where(("network", "subnets", first[name], "name"))
            yield site.finding((*path, "name"), f"subnet {quoted(name)} is declared twice (first at {place})")
        elif name is not None:
            first[name] = index
        prefix, wrong = _network(subnet.get("prefix"))
        if wrong:
            yield site.finding((*path, "prefix"), f"prefix {wrong}")
        if prefix is not None:
            placed.append(_Subnet(index, str(name), prefix))
            yield from _check_subnet(site, space, placed)


def _check_subnet(site: Thing, space: IPv4Network | None, placed: list[_Subnet]) -> Iterator[Finding]:
    *others, subnet = placed
    path: Path = ("network", "subnets", subnet.index, "prefix")
    if space is not None and not subnet.network.subnet_of(space):
        yield site.finding(path, f"subnet {subnet.network} lies outside the address space {space}")
    for other in others:
        if subnet.network.overlaps(other.network):
            place = site.where(("network", "subnets", other.index, "prefix"))
            message = f'subnet {subnet.network} overlaps subnet "{other.name}" {other.network} at {place}'
            yield site.finding(path, message)


def _network(text: object) -> tuple[IPv4Network | None, str]:
    """Return a network as Azure would take it, and else what is wrong with it."""
    if not isinstance(text, str):
        return None, ""
    try:
        network = IPv4Network(text, strict=False)
    except ValueError:
        return None, f"{quoted(text)} is not an IPv4 network"
    if str(network) != text:
        return None, f"{quoted(text)} has bits set behind its prefix length; write {network}"
    if not LARGEST <= network.prefixlen <= SMALLEST:
        return None, f"{text} must be between /{LARGEST} and /{SMALLEST}"
    for unusable, why in _UNUSABLE:
        if network.overlaps(unusable):
            return None, f"{text} can't be used in Azure: {unusable} is for {why}"
    return network, ""


def _check_targets(estate: Estate) -> Iterator[Finding]:
    used: dict[IPv4Address, Thing] = {}
    subnets = subnets_by_name(estate)
    for server in estate.of("Server"):
        target = server.section("target")
        name = target.get("subnet")
        subnet = subnets.get(name) if name is not None else None
        if name is not None and not estate.known("subnet", name):
            meant = closest(name, sorted(estate.names["subnet"]))
            yield server.finding(("target", "subnet"), f"unknown subnet {quoted(name)}", meant)
        yield from _check_address(server, target.get("address"), subnet, used)


def _check_address(
    server: Thing, text: object, subnet: Data | None, used: dict[IPv4Address, Thing]
) -> Iterator[Finding]:
    if not isinstance(text, str):
        return
    path: Path = ("target", "address")
    try:
        address = IPv4Address(text)
    except ValueError:
        yield server.finding(path, f"address {quoted(text)} is not an IPv4 address")
        return
    if address in used:
        other = used[address]
        message = f'address {address} is used twice (first by server "{other.name}" at {other.where(path)})'
        yield server.finding(path, message)
    used.setdefault(address, server)
    prefix, _ = _network(subnet.get("prefix")) if subnet is not None else (None, "")
    if subnet is None or prefix is None:
        return
    name = subnet.get("name")
    if address not in prefix:
        yield server.finding(path, f'address {address} lies outside subnet "{name}" {prefix}')
    elif int(address) - int(prefix.network_address) < 4 or address == prefix.broadcast_address:
        message = (
            f'address {address} is one of the five that Azure keeps in subnet "{name}" {prefix};'
            f" take one from {prefix.network_address + 4} to {prefix.broadcast_address - 1}"
        )
        yield server.finding(path, message)


def subnets_by_name(estate: Estate) -> dict[str, Data]:
    """Return the subnets of the first site that has any."""
    for site in estate.of("Site"):
        found = {s["name"]: s for _, s in reversed(list(items(site.section("network").get("subnets")))) if "name" in s}
        if found:
            return dict(reversed(found.items()))
    return {}
