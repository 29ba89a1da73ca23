"""Which TCP ports a set of Azure security rules lets in. Pure.

Azure's rules: the matching rule with the lowest priority number decides; what no rule matches is let in from the
same network and refused from elsewhere. The operator of the local target is a stranger to the network, so only what
a rule allows to everybody is open. Both the subnet's and the interface's group must allow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

# A forwarded port is a listening socket of this machine; a rule for a thousand ports must not open a thousand.
WIDEST_RANGE = 64
EVERYBODY = ("*", "Internet", "0.0.0.0/0")  # what a rule's source is when it holds for one who is not in the network

Rule = Mapping[str, Any]


def open_ports(groups: Sequence[Sequence[Rule]]) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return (open ports, names of allowing rules too wide to forward) of the groups that apply together."""
    if not groups:
        return (), ()
    allowed: set[int] | None = None
    wide: set[str] = set()
    for rules in groups:
        inbound = sorted(
            (r for r in rules if r.get("direction") == "Inbound" and _meets_a_stranger(r)),
            key=lambda rule: int(rule["priority"]),
        )
        ports: set[int] = set()
        for rule in inbound:
            if rule.get("access") != "Allow":
                continue
            for first, last in _ranges(rule):
                if last - first >= WIDEST_RANGE:
                    wide.add(str(rule.get("name", "")))
                else:
                    ports.update(port for port in range(first, last + 1) if _decides(inbound, port) is rule)
        allowed = ports if allowed is None else allowed & ports
    return tuple(sorted(allowed or ())), tuple(sorted(wide))


def _meets_a_stranger(rule: Rule) -> bool:
    return (
        str(rule.get("protocol", "*")).lower() in {"tcp", "*"}
        and rule.get("sourceAddressPrefix", EVERYBODY[0]) in EVERYBODY
    )


def _decides(rules: Iterable[Rule], port: int) -> Rule | None:
    return next((rule for rule in rules if any(a <= port <= b for a, b in _ranges(rule))), None)


def _ranges(rule: Rule) -> Iterator[tuple[int, int]]:
    texts = [rule.get("destinationPortRange"), *(rule.get("destinationPortRanges") or [])]
    for text in texts:
        if text in (None, ""):
            continue
        if text == "*":
            yield 0, 65535
        else:
            first, _, last = str(text).partition("-")
            yield int(first), int(last or first)
