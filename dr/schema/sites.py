"""Checks of the Site beside its networks: listeners, subscription, budget, resource groups. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dr.schema.addresses import parse_address
from dr.schema.document import Path
from dr.schema.findings import Finding, closest, quoted
from dr.schema.thing import Estate, Thing, items


def check_sites(estate: Estate) -> Iterator[Finding]:
    """Yield what is wrong with each site beyond its shape and its networks."""
    for site in estate.of("Site"):
        yield from _check_listeners(site)
        yield from _check_landing_zone(site)


def _check_listeners(site: Thing) -> Iterator[Finding]:
    """Yield process servers that share a name, or an address and port with another listener."""
    server = site.section("configurationServer")
    taken: dict[tuple[object, object], str] = {}
    if "address" in server and "port" in server:
        taken[(server["address"], server["port"])] = "the configuration server"
    yield from wrong_address(site, ("configurationServer", "address"), server.get("address"))
    named: dict[str, int] = {}
    for index, process in items(site.data.get("processServers")):
        path: Path = ("processServers", index)
        name, listener = process.get("name"), (process.get("address"), process.get("port"))
        yield from wrong_address(site, (*path, "address"), process.get("address"))
        if name is not None and name in named:
            place = site.where(("processServers", named[name], "name"))
            yield site.finding(
                (*path, "name"),
                f"process server {quoted(name)} is declared twice (first at {place}); give one another name",
            )
        elif name is not None:
            named[name] = index
        if None not in listener and listener in taken:
            message = f"{listener[0]}:{listener[1]} is taken by {taken[listener]}; choose another port"
            yield site.finding((*path, "address"), message)
        taken.setdefault(listener, f'process server "{name}"')


def wrong_address(thing: Thing, path: Path, address: object) -> Iterator[Finding]:
    """Yield what looks like an IPv4 address and is none (`10.0.2.256` would pass as a host name)."""
    _, wrong = parse_address(address)
    if wrong and re.fullmatch(r"[0-9.]+", str(address)):
        yield thing.finding(path, f"address {wrong}")


def _check_landing_zone(site: Thing) -> Iterator[Finding]:
    data, groups = site.data, site.section("resourceGroups")
    if data.get("target") == "azure" and not any(closest(key, ["subscription"]) for key in site.written()):
        yield site.finding(("target",), 'target is azure, and this Site lacks the key "subscription"; add it')
    vault, other = groups.get("vault"), groups.get("site")
    if isinstance(vault, str) and isinstance(other, str) and vault.casefold() == other.casefold():
        message = (
            f"{quoted(other)} is the vault's resource group too (names in Azure don't know case): whoever deletes the"
            " landing zone would delete the recovery points; choose another"
        )
        yield site.finding(("resourceGroups", "site"), message)
    if "budget" in data and data.get("alerts") == [] and "alerts" not in site.written():
        yield site.finding(("budget",), "a budget tells those in alerts, and there are none; add an address to alerts")
    yield from _check_alerts(site)


def _check_alerts(site: Thing) -> Iterator[Finding]:
    first: dict[str, int] = {}
    alerts = site.data.get("alerts")
    for index, address in enumerate(alerts if isinstance(alerts, list) else []):
        if not isinstance(address, str):
            continue
        if address.casefold() in first:
            place = site.where(("alerts", first[address.casefold()]))
            yield site.finding(("alerts", index), f"{quoted(address)} is given twice (first at {place}); take one out")
        first.setdefault(address.casefold(), index)
