"""Addresses and networks as Azure would take them, and else what is wrong with them. Pure.

Azure's rules: a virtual network and its subnets have /29 at the smallest; some ranges can't be used at all (Microsoft
Learn, "Azure Virtual Network frequently asked questions").
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from dr.schema.findings import quoted

LARGEST, SMALLEST = 8, 29  # prefix lengths
UNUSABLE = [
    (IPv4Network("224.0.0.0/4"), "multicast"),
    (IPv4Network("255.255.255.255/32"), "broadcast"),
    (IPv4Network("127.0.0.0/8"), "loopback"),
    (IPv4Network("169.254.0.0/16"), "link-local"),
    (IPv4Network("168.63.129.16/32"), "Azure's own DNS and health probes"),
]


def parse_network(text: object, smallest: int = SMALLEST) -> tuple[IPv4Network | None, str]:
    """Return a network, and else what is wrong with it; neither where there is no text."""
    if not isinstance(text, str):
        return None, ""
    try:
        network = IPv4Network(text, strict=False)
    except ValueError:
        return None, f"{quoted(text)} is not an IPv4 network; write one such as 10.20.1.0/24"
    if str(network) != text:
        return None, f"{quoted(text)} has bits set behind its prefix length; write {network}"
    if not LARGEST <= network.prefixlen <= smallest:
        return None, f"{text} must be between /{LARGEST} and /{smallest}"
    for unusable, why in UNUSABLE:
        if network.overlaps(unusable):
            return None, f"{text} can't be used in Azure: {unusable} is for {why}; choose another"
    return network, ""


def parse_address(text: object) -> tuple[IPv4Address | None, str]:
    """Return an address, and else what is wrong with it; neither where there is no text."""
    if not isinstance(text, str):
        return None, ""
    try:
        return IPv4Address(text), ""
    except ValueError:
        return None, f"{quoted(text)} is not an IPv4 address; it has four numbers of 0 to 255 without leading zeros"
