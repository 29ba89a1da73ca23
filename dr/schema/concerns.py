"""Concerns: a declaration that is well, and what a person may still expect of it in vain. Pure.

A concern has a name, a place, a cause and a remedy, like an error; unlike one it stops nothing. What is only a gap of
the product is here too: no key is passed over in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from dr.schema import regions
from dr.schema.document import Path
from dr.schema.findings import Finding, closest, quoted
from dr.schema.thing import Estate, Thing
from dr.schema.waiting import WAITING

AZURES_OWN = 4  # the first addresses of each subnet
ROOM_FOR_ENDPOINTS = 4  # two are needed; one that is made anew may have the next address


@dataclass(frozen=True, slots=True)
class Concern:
    """One concern; `str()` gives the line that people read."""

    code: str
    finding: Finding
    remedy: str

    def __str__(self) -> str:
        found = self.finding
        where = f"{found.file}:{found.line}:{found.column}"
        return f"{where}: {self.code}: {found.message} (remedy: {self.remedy})"


def find_concerns(estate: Estate) -> tuple[Concern, ...]:
    """Return the concerns of a declaration without errors, in the order of file, line and column."""
    found = [*_waiting_keys(estate), *_servers_without_plan(estate), *_applications(estate)]
    for site in estate.of("Site"):
        found += [*_region(estate, site), *_private_endpoints(estate, site)]
    return tuple(sorted(found, key=lambda c: (c.finding.file, c.finding.line, c.finding.column, c.code)))


def _waiting_keys(estate: Estate) -> Iterator[Concern]:
    """Yield each key that is used and not acted upon yet, once for the whole declaration, at its first place."""
    places: dict[str, list[tuple[Thing, Path]]] = {}
    for thing in estate.things:
        for path in thing.document.keys:
            key = f"{thing.kind}.{_key(path)}"
            if key in WAITING and thing.at(path) not in ([], {}):
                places.setdefault(key, []).append((thing, path))
    for key, uses in places.items():
        thing, path = min(uses, key=lambda use: (use[0].document.file, use[0].document.key_place(use[1])))
        more = f" (used {len(uses)} times)" if len(uses) > 1 else ""
        message = f"{quoted(key.partition('.')[2])} is checked and kept, and nothing is done with it yet{more}"
        yield Concern(
            "not-acted-upon",
            thing.document.finding(path, message, at_key=True),
            f"don't rely on it before this comes: {WAITING[key]}",
        )


def _key(path: Path) -> str:
    """Return a path as the documentation names its key: `groups[].before`."""
    return "".join("[]" if isinstance(step, int) else f".{step}" for step in path).lstrip(".")


def _servers_without_plan(estate: Estate) -> Iterator[Concern]:
    planned = {name for plan in estate.of("RecoveryPlan") for name in plan.listed_servers()}
    for server in estate.of("Server"):
        if server.name not in planned:
            yield Concern(
                "server-in-no-plan",
                server.finding(("name",), f"server {quoted(server.name)} is in no recovery plan: no run recovers it"),
                "add it to a group of a RecoveryPlan",
            )


def _applications(estate: Estate) -> Iterator[Concern]:
    """Yield servers of a policy with application-consistent points that declare nothing to ask, and the reverse.

    `sync` and a freeze ask nobody: such a point is crash-consistent, whatever the policy says.
    """
    every = {policy.name: policy.data.get("appConsistentEvery") for policy in estate.of("ReplicationPolicy")}
    for server in estate.of("Server"):
        policy, applications = server.data["policy"], server.data.get("applications")
        if every[policy] is not None and applications is None:
            yield Concern(
                "no-applications",
                server.finding(
                    ("name",),
                    f"policy {quoted(policy)} has appConsistentEvery, and server {quoted(server.name)} declares no"
                    " applications: all its points are crash-consistent",
                ),
                "declare what runs there in `applications`, or write `applications: []` if nothing has to be asked",
            )
        elif every[policy] is None and applications:
            yield Concern(
                "applications-not-asked",
                server.document.finding(
                    ("applications",),
                    f"policy {quoted(policy)} has no appConsistentEvery: the applications of {quoted(server.name)} are"
                    " asked only when somebody wants a point by hand",
                    at_key=True,
                ),
                "add appConsistentEvery to the policy; `dr points SERVER --app-consistent` asks them now",
            )


def _region(estate: Estate, site: Thing) -> Iterator[Concern]:
    region, path = site.data["location"], ("location",)
    if not regions.is_known(region):
        meant = closest(region, sorted(regions.NAMES))
        yield Concern(
            "region-unknown",
            site.finding(path, f"{quoted(region)} is not among the regions of Azure that are known here"),
            (f'did you mean "{meant}"? ' if meant else "") + "`az account list-locations` lists them all",
        )
    redundancy = site.section("storage").get("redundancy", "LRS")
    zoned = next((server for server in estate.of("Server") if "zone" in server.section("target")), None)
    if regions.lacks_zones(region) and zoned is not None:
        yield Concern(
            "region-without-zones",
            zoned.finding(("target", "zone"), f"region {region} has no availability zones: Azure would refuse the VM"),
            "leave zone out, or choose another location",
        )
    if (regions.lacks_zones(region) and redundancy in ("ZRS", "GZRS")) or (
        regions.lacks_pair(region) and redundancy in ("GRS", "GZRS")
    ):
        lacks = "has no availability zones" if regions.lacks_zones(region) else "is paired with no other region"
        yield Concern(
            "redundancy-unavailable",
            site.finding(("storage", "redundancy"), f"redundancy {redundancy}: region {region} {lacks}"),
            "choose another redundancy or another location; Azure has the last word when the vault is made",
        )


def _private_endpoints(estate: Estate, site: Thing) -> Iterator[Concern]:
    if site.data["endpoints"] != "private":
        return
    if "gateway" not in site.data:
        message = "endpoints are private, and no gateway is declared that the site reaches them by"
        yield Concern(
            "private-without-gateway",
            site.finding(("endpoints",), message),
            "declare gateway, unless the site has another way into the network",
        )
    # They lie in the first subnet, and Azure gives them its first free addresses (`dr.compile.landing`).
    subnet = site.section("network")["subnets"][0]
    free = IPv4Network(subnet["prefix"]).network_address + AZURES_OWN + ROOM_FOR_ENDPOINTS
    for server in estate.of("Server"):
        target = server.section("target")
        if target["subnet"] == subnet["name"] and IPv4Address(target["address"]) < free:
            where = f"among the first of subnet {quoted(subnet['name'])}, which private endpoints are given"
            yield Concern(
                "address-may-be-taken",
                server.finding(("target", "address"), f"address {target['address']} is {where}"),
                f"take one from {free} on",
            )
