"""Checks of the site's networks: production and drill, their subnets, gateway and Bastion. Pure.

The subnet of a gateway has /27 at the smallest, that of Bastion /26 (Microsoft Learn, "About VPN Gateway configuration
settings", "About Azure Bastion configuration settings").

The drill network may have the addresses of production: nothing connects the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

from dr.schema.addresses import UNUSABLE, parse_address, parse_network
from dr.schema.document import Path
from dr.schema.findings import Finding, quoted
from dr.schema.thing import Data, Estate, Thing, items

SMALLEST_OF_GATEWAY = 27
SMALLEST_OF_BASTION = 26
# Not `is_private`: that holds for ranges of documentation too, which are as good as any public address here.
_NOT_PUBLIC = [
    *(IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")),
    *(network for network, _ in UNUSABLE),
]


@dataclass(frozen=True, slots=True)
class _Range:
    """A part of a virtual network: a subnet, or what Azure puts into one of its own."""

    what: str
    path: Path  # of its prefix
    network: IPv4Network


def check_networks(estate: Estate) -> Iterator[Finding]:
    """Yield what is wrong with the networks of each site."""
    for site in estate.of("Site"):
        for key in ("network", "drillNetwork"):
            space, wrong = parse_network(site.section(key).get("addressSpace"))
            if wrong:
                yield site.finding((key, "addressSpace"), f"addressSpace {wrong}")
            ranges: list[_Range] = []
            yield from _subnets(site, key, ranges)
            if key == "network":
                yield from _own_subnets(site, ranges)
            yield from _misplaced(site, space, ranges)
        yield from _check_vpn(site)


def _subnets(site: Thing, key: str, ranges: list[_Range]) -> Iterator[Finding]:
    first: dict[str, int] = {}
    for index, subnet in items(site.section(key).get("subnets")):
        path: Path = (key, "subnets", index)
        name = subnet.get("name")
        if name is not None and name in first:
            place = site.where((key, "subnets", first[name], "name"))
            yield site.finding(
                (*path, "name"), f"subnet {quoted(name)} is declared twice (first at {place}); give one another name"
            )
        elif name is not None:
            first[name] = index
        prefix, wrong = parse_network(subnet.get("prefix"))
        if wrong:
            yield site.finding((*path, "prefix"), f"prefix {wrong}")
        if prefix is not None:
            what = "the subnet" if name is None else f"subnet {quoted(name)}"
            ranges.append(_Range(what, (*path, "prefix"), prefix))


def _own_subnets(site: Thing, ranges: list[_Range]) -> Iterator[Finding]:
    """Add the subnets that are declared by their prefix only."""
    for key, smallest in (("gateway", SMALLEST_OF_GATEWAY), ("bastion", SMALLEST_OF_BASTION)):
        prefix, wrong = parse_network(site.section(key).get("prefix"), smallest)
        if wrong:
            yield site.finding((key, "prefix"), f"prefix {wrong}")
        if prefix is not None:
            ranges.append(_Range(f"the subnet of the {key}", (key, "prefix"), prefix))


def _misplaced(site: Thing, space: IPv4Network | None, ranges: list[_Range]) -> Iterator[Finding]:
    for index, part in enumerate(ranges):
        if space is not None and not part.network.subnet_of(space):
            yield site.finding(
                part.path, f"{part.what} {part.network} lies outside the address space {space}; choose one inside"
            )
        for other in ranges[:index]:
            if part.network.overlaps(other.network):
                place = site.where(other.path)
                yield site.finding(
                    part.path,
                    f"{part.what} {part.network} overlaps {other.what} {other.network} at {place}; choose another",
                )


def _check_vpn(site: Thing) -> Iterator[Finding]:
    vpn = site.section("gateway").get("vpn")
    if not isinstance(vpn, dict):
        return
    yield from _check_peer(site, vpn)
    space, _ = parse_network(site.section("network").get("addressSpace"))
    seen: dict[IPv4Network, Path] = {}
    prefixes = vpn.get("sitePrefixes")
    for index, text in enumerate(prefixes if isinstance(prefixes, list) else []):
        path: Path = ("gateway", "vpn", "sitePrefixes", index)
        prefix, wrong = parse_network(text, 32)
        if wrong:
            yield site.finding(path, f"network {wrong}")
        if prefix is None:
            continue
        if space is not None and prefix.overlaps(space):
            message = (
                f"network {prefix} of the site overlaps the address space {space}: no gateway could tell them apart"
            )
            yield site.finding(path, message, remedy="choose other addresses for one")
        overlapped = next((other for other in seen if other.overlaps(prefix)), None)
        if overlapped is not None:
            place = site.where(seen[overlapped])
            yield site.finding(path, f"network {prefix} of the site overlaps {overlapped} at {place}; take one out")
        seen.setdefault(prefix, path)


def _check_peer(site: Thing, vpn: Data) -> Iterator[Finding]:
    path: Path = ("gateway", "vpn", "peerAddress")
    address, wrong = parse_address(vpn.get("peerAddress"))
    if wrong:
        yield site.finding(path, f"peerAddress {wrong}")
    elif address is not None and any(address in network for network in _NOT_PUBLIC):
        remedy = "write the address that others see"
        yield site.finding(path, f"peerAddress {address} is not public: Azure can't reach it", remedy=remedy)
