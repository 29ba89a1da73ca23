"""What security rules as they were registered let through: evaluated packet by packet, not compared as lists.

Azure's way: in each direction the matching rule with the lowest priority number decides, and behind the declared ones
stand its own three. What a service tag stands for is Azure's to change (`VirtualNetwork` grows with every peering and
gateway), so a packet is judged for every meaning at once: `maybe_passes` takes a tag as matching wherever that lets
the packet in, `surely_passes` wherever that stops it.

What rules decide changes only at the edges of the prefixes and ports they name. So one address and one port of each
stretch between two edges stand for all packets there are.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

Rule = Mapping[str, Any]
INBOUND, OUTBOUND = "Inbound", "Outbound"
PROTOCOLS = ("Tcp", "Udp", "Icmp")
LAST_ADDRESS = 2**32 - 1
LAST_PORT = 65535


def _default(priority: int, direction: str, access: str, source: str, destination: str) -> Rule:
    return {
        "priority": priority,
        "direction": direction,
        "access": access,
        "protocol": "*",
        "sourceAddressPrefix": source,
        "destinationAddressPrefix": destination,
        "destinationPortRange": "*",
    }


# Source: Azure's documentation, "Network security groups", default security rules.
DEFAULTS = (
    _default(65000, INBOUND, "Allow", "VirtualNetwork", "VirtualNetwork"),
    _default(65001, INBOUND, "Allow", "AzureLoadBalancer", "*"),
    _default(65500, INBOUND, "Deny", "*", "*"),
    _default(65000, OUTBOUND, "Allow", "VirtualNetwork", "VirtualNetwork"),
    _default(65001, OUTBOUND, "Allow", "*", "Internet"),
    _default(65500, OUTBOUND, "Deny", "*", "*"),
)


@dataclass(frozen=True, slots=True)
class Packet:
    direction: str
    source: ipaddress.IPv4Address
    destination: ipaddress.IPv4Address
    protocol: str
    port: int

    @property
    def far(self) -> ipaddress.IPv4Address:
        """The end that is not in the subnet whose rules are asked."""
        return self.source if self.direction == INBOUND else self.destination


def maybe_passes(rules: Iterable[Rule], packet: Packet) -> bool:
    return _passes(rules, packet, tags_serve="Allow")


def surely_passes(rules: Iterable[Rule], packet: Packet) -> bool:
    return _passes(rules, packet, tags_serve="Deny")


def packets(rules: Sequence[Rule], near: str, others: Iterable[str]) -> Iterator[Packet]:
    """Yield one packet of each class that the rules, `near` and the prefixes `others` tell apart, from and to `near`.

    `near` is the prefix of the subnet that the rules belong to.
    """
    named = {text for rule in rules for text in (rule["sourceAddressPrefix"], rule["destinationAddressPrefix"])}
    edges = _edges({text for text in named if not _is_tag(text) and text != "*"} | {near, *others})
    inside = _network(near)
    for far in edges:
        for address in (edge for edge in edges if edge in inside):
            for port in _ports(rules):
                for protocol in PROTOCOLS:
                    yield Packet(OUTBOUND, address, far, protocol, port)
                    yield Packet(INBOUND, far, address, protocol, port)


def _passes(rules: Iterable[Rule], packet: Packet, *, tags_serve: str) -> bool:
    for rule in sorted((*rules, *DEFAULTS), key=lambda rule: rule["priority"]):
        if rule["direction"] == packet.direction and _matches(rule, packet, tag=rule["access"] == tags_serve):
            return bool(rule["access"] == "Allow")
    raise AssertionError("Azure's last rule matches everything")


def _matches(rule: Rule, packet: Packet, *, tag: bool) -> bool:
    return (
        rule["protocol"] in {"*", packet.protocol}
        and any(_holds(text, packet.port) for text in _ranges(rule))
        and _is_in(packet.source, rule["sourceAddressPrefix"], tag=tag)
        and _is_in(packet.destination, rule["destinationAddressPrefix"], tag=tag)
    )


def _is_in(address: ipaddress.IPv4Address, named: str, *, tag: bool) -> bool:
    if named == "*":
        return True
    return tag if _is_tag(named) else address in _network(named)


@cache
def _network(prefix: str) -> ipaddress.IPv4Network:
    return ipaddress.IPv4Network(prefix)


def _is_tag(text: str) -> bool:
    return text[0].isalpha()


def _ranges(rule: Rule) -> list[str]:
    single = rule.get("destinationPortRange")
    return list(rule.get("destinationPortRanges") or []) if single is None else [single]


def _holds(ports: str, port: int) -> bool:
    first, _, last = ports.partition("-")
    return ports == "*" or int(first) <= port <= int(last or first)


def _edges(prefixes: Iterable[str]) -> list[ipaddress.IPv4Address]:
    starts = {0}
    for prefix in prefixes:
        network = _network(prefix)
        starts |= {int(network[0]), min(int(network[-1]) + 1, LAST_ADDRESS)}
    return [ipaddress.IPv4Address(start) for start in sorted(starts)]


def _ports(rules: Iterable[Rule]) -> list[int]:
    starts = {0}
    for text in (text for rule in rules for text in _ranges(rule) if text != "*"):
        first, _, last = text.partition("-")
        starts |= {int(first), min(int(last or first) + 1, LAST_PORT)}
    return sorted(starts)
