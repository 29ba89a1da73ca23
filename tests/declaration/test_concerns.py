"""What is well and still worth a word: each concern by its name, place and remedy, and no other."""

from __future__ import annotations

import pytest

from dr.schema import examine
from dr.schema.definition import KINDS
from dr.schema.definition.words import every_key
from dr.schema.waiting import WAITING
from tests.declaration.estate import FILES, sources, whole_files


def concerns(files: dict[str, str]) -> list[str]:
    examined = examine(sources(files))
    assert examined.declaration is not None, examined.findings
    return [str(concern) for concern in examined.concerns]


def others(files: dict[str, str]) -> list[str]:
    """Return the concerns but for keys that wait: which ones do changes with each capability."""
    return [line for line in concerns(files) if "not-acted-upon" not in line]


def edited(file: str, old: str, new: str, files: dict[str, str] = FILES) -> dict[str, str]:
    assert old in files[file]
    return {**files, file: files[file].replace(old, new)}


def test_a_small_estate_raises_none() -> None:
    assert concerns(FILES) == []


def test_a_broken_estate_has_errors_and_no_concerns() -> None:
    examined = examine(sources(edited("site.yaml", "port: 9444", "port: 0", whole_files())))
    assert (len(examined.findings), examined.concerns) == (1, ())


def test_every_key_that_is_not_acted_upon_is_named_once() -> None:
    found = [line for line in concerns(whole_files()) if "not-acted-upon" in line]
    assert sorted(line.split('"')[1] for line in found) == sorted(key.partition(".")[2] for key in WAITING)
    assert found[0] == (
        'plans.yaml:3:1: not-acted-upon: "objectives" is checked and kept, and nothing is done with it yet'
        " (remedy: don't rely on it before this comes: drills and their evidence)"
    )
    twice = edited("servers.yaml", "group: shop\ndisks", "group: shop\nbootPreparation: source\ndisks", whole_files())
    assert (
        'servers.yaml:18:1: not-acted-upon: "bootPreparation" is checked and kept, and nothing is done with it yet'
        " (used 2 times) (remedy: don't rely on it before this comes: boot readiness)"
    ) in concerns(twice)


def test_the_table_names_keys_that_there_are() -> None:
    assert set(WAITING) <= {f"{kind}.{key}" for kind in KINDS for key, _, _ in every_key(KINDS[kind])}


def test_a_default_is_not_named() -> None:
    empty = edited("plans.yaml", "    checks:\n", "    before: []\n    after: []\n    checks:\n")
    assert concerns(empty) == []


GATEWAY = "gateway:\n  prefix: 10.20.254.0/27\n  expressRoute: {circuit: CIRCUIT}\n".replace(
    "CIRCUIT",
    "/subscriptions/11111111-2222-3333-4444-555555555555/resourceGroups/net/providers/Microsoft.Network"
    "/expressRouteCircuits/c1",
)


def with_gateway(address: str) -> dict[str, str]:
    """Return the small estate with a gateway, and its first server at another address."""
    files = edited("servers.yaml", "address: 10.20.1.10", f"address: {address}")
    return {**files, "site.yaml": files["site.yaml"] + GATEWAY}


@pytest.mark.parametrize(
    ("files", "line"),
    [
        (
            edited("plans.yaml", "  - servers: [db1]\n", ""),
            'servers.yaml:21:7: server-in-no-plan: server "db1" is in no recovery plan: no run recovers it'
            " (remedy: add it to a group of a RecoveryPlan)",
        ),
        (
            edited("site.yaml", "westeurope", "westeurop"),
            'site.yaml:3:11: region-unknown: "westeurop" is not among the regions of Azure that are known here'
            ' (remedy: did you mean "westeurope"? `az account list-locations` lists them all)',
        ),
        (
            edited("servers.yaml", "  firmware: uefi", "  zone: 1\n  firmware: uefi")
            | {"site.yaml": FILES["site.yaml"].replace("westeurope", "westus")},
            "servers.yaml:39:9: region-without-zones: region westus has no availability zones: Azure would refuse the"
            " VM (remedy: leave zone out, or choose another location)",
        ),
        (
            edited("site.yaml", "location: westeurope", "location: ukwest\nstorage: {redundancy: ZRS}"),
            "site.yaml:4:23: redundancy-unavailable: redundancy ZRS: region ukwest has no availability zones (remedy:"
            " choose another redundancy or another location; Azure has the last word when the vault is made)",
        ),
        (
            edited("site.yaml", "location: westeurope", "location: polandcentral\nstorage: {redundancy: GRS}"),
            "site.yaml:4:23: redundancy-unavailable: redundancy GRS: region polandcentral is paired with no other"
            " region (remedy: choose another redundancy or another location; Azure has the last word when the vault is"
            " made)",
        ),
        (
            edited("site.yaml", "location: westeurope", "location: westeurope\nendpoints: private"),
            "site.yaml:4:12: private-without-gateway: endpoints are private, and no gateway is declared that the site"
            " reaches them by (remedy: declare gateway, unless the site has another way into the network)",
        ),
        (
            edited("site.yaml", GATEWAY, f"{GATEWAY}endpoints: private\n", with_gateway("10.20.1.7")),
            'servers.yaml:15:12: address-may-be-taken: address 10.20.1.7 is among the first of subnet "front", which'
            " private endpoints are given (remedy: take one from 10.20.1.8 on)",
        ),
        (
            edited("policies.yaml", "retention: 24h", "retention: 24h\nappConsistentEvery: 4h")
            | {"servers.yaml": FILES["servers.yaml"].replace("---\n", "applications: []\n---\n")},
            'servers.yaml:22:7: no-applications: policy "standard" has appConsistentEvery, and server "db1" declares no'
            " applications: all its points are crash-consistent (remedy: declare what runs there in `applications`, or"
            " write `applications: []` if nothing has to be asked)",
        ),
        (
            edited("servers.yaml", "uefi\n", "uefi\napplications:\n  - {name: db, use: postgresql}\n"),
            'servers.yaml:40:1: applications-not-asked: policy "standard" has no appConsistentEvery: the applications'
            ' of "db1" are asked only when somebody wants a point by hand (remedy: add appConsistentEvery to the'
            " policy; `dr points SERVER --app-consistent` asks them now)",
        ),
    ],
    ids=[
        "no-plan",
        "region",
        "zones",
        "redundancy-zones",
        "redundancy-pair",
        "private",
        "endpoint",
        "no-applications",
        "not-asked",
    ],
)
def test_each_concern_by_its_line(files: dict[str, str], line: str) -> None:
    assert others(files) == [line]


@pytest.mark.parametrize("region", ["usgovvirginia", "chinanorth3", "japanwest"])
def test_regions_of_other_clouds_and_with_all_raise_none(region: str) -> None:
    text = f"location: {region}\nstorage: {{redundancy: GZRS}}"
    assert others(edited("site.yaml", "location: westeurope", text)) == []
