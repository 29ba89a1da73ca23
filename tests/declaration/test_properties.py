"""Properties: any bytes give a declaration or findings; compiling is a function, local, and within Azure's names."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dr.compile import failover, names, site, vault
from dr.errors import NotFound, Refused
from dr.model import Declaration
from dr.schema import examine
from dr.schema.definition.plan import PLAN_NAME_LENGTH
from dr.schema.definition.server import DISK_NAME_LENGTH, MACHINE_NAME_LENGTH
from dr.schema.definition.site import SITE_NAME_LENGTH, SUBNET_NAME_LENGTH
from dr.schema.definition.words import SERVER_NAME_LENGTH
from tests.declaration.estate import FILES, sources, whole_files
from tests.declaration.test_whole import declared, whole

SUBSCRIPTION = "11111111-2222-3333-4444-555555555555"
RUN = "20270102-030405-a1b2"
ESTATES = {"small": FILES, "whole": whole_files()}
MANY = settings(max_examples=20, deadline=None)


def declare(**replaced: tuple[str, str]) -> Declaration:
    """Return the estate with one text replaced in each named file."""
    files = dict(FILES)
    for name, (old, new) in replaced.items():
        assert old in files[f"{name}.yaml"]
        files[f"{name}.yaml"] = files[f"{name}.yaml"].replace(old, new)
    examined = examine(sources(files))
    assert examined.declaration is not None, examined.findings
    return examined.declaration


def blueprints(declaration: Declaration) -> dict[str, Any]:
    return {
        "vault": dataclasses.asdict(vault(declaration, SUBSCRIPTION)),
        "site": dataclasses.asdict(site(declaration, SUBSCRIPTION)),
        "failover": dataclasses.asdict(failover(declaration, "shop", RUN, "latest", SUBSCRIPTION)),
    }


def differences(one: Any, two: Any, path: str = "") -> Iterator[str]:
    """Yield the paths where two nested values differ."""
    if isinstance(one, dict) and isinstance(two, dict):
        for key in sorted(one.keys() | two.keys()):
            yield from differences(one.get(key), two.get(key), f"{path}.{key}".lstrip("."))
    elif isinstance(one, list | tuple) and isinstance(two, list | tuple) and len(one) == len(two):
        for index, (left, right) in enumerate(zip(one, two, strict=True)):
            yield from differences(left, right, f"{path}[{index}]")
    elif one != two:
        yield path


# Reading ---------------------------------------------------------------------------------------------------


@MANY
@given(st.binary(max_size=200))
def test_any_bytes_are_examined(content: bytes) -> None:
    examined = examine(sources() | {"site.yaml": content})
    assert examined.declaration is None
    assert examined.findings


@pytest.mark.thorough
@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([(estate, name) for estate in ESTATES for name in ESTATES[estate]]),
    st.integers(0, 2200),
    st.integers(0, 12),
    st.sampled_from(
        [
            "",
            " ",
            "\n",
            "\t",
            ":",
            "- ",
            "[",
            "]",
            "{}",
            "[]",
            "#",
            '"',
            "'",
            "|",
            "0",
            "~",
            "true",
            "a: b\n",
            "---\n",
            "\0",
            "é",
        ]
    ),
)
def test_any_slip_of_the_pen_is_examined(place: tuple[str, str], start: int, length: int, inserted: str) -> None:
    files, file = ESTATES[place[0]], place[1]
    text = files[file]
    start = min(start, len(text))
    examined = examine(sources({**files, file: text[:start] + inserted + text[start + length :]}))
    assert (examined.declaration is None) == bool(examined.findings)
    for finding in examined.findings:
        assert finding.line >= 1
        assert finding.column >= 1
        assert "\n" not in str(finding)
    assert list(examined.findings) == sorted(examined.findings, key=lambda f: (f.file, f.line, f.column, f.message))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@pytest.mark.thorough
@settings(max_examples=40, deadline=None)
@given(st.data())
def test_any_value_in_the_place_of_another_is_examined(data: st.DataObject) -> None:
    files = ESTATES[data.draw(st.sampled_from(sorted(ESTATES)))]
    file = data.draw(st.sampled_from(sorted(files)))
    documents = list(yaml.safe_load_all(files[file]))
    parent: Any = documents
    key: Any = data.draw(st.integers(0, len(documents) - 1))
    while isinstance(parent[key], dict | list) and parent[key] and data.draw(st.booleans()):
        parent = parent[key]
        key = data.draw(st.sampled_from(sorted(parent) if isinstance(parent, dict) else list(range(len(parent)))))
    parent[key] = data.draw(VALUES)
    text = "---\n".join(json.dumps(document) + "\n" for document in documents)
    examined = examine(sources({**files, file: text}))
    assert (examined.declaration is None) == bool(examined.findings)


PREFIXES = st.builds(
    lambda address, length: str(IPv4Network((address, length), strict=False)),
    st.integers(int(IPv4Address("10.19.255.0")), int(IPv4Address("10.21.1.0"))),
    st.integers(17, 27),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(PREFIXES, min_size=3, max_size=5), st.booleans())
def test_networks_are_refused_exactly_when_they_overlap_or_lie_outside(prefixes: list[str], bastion: bool) -> None:
    """The judgement equals the one by counting, whatever the parts are: subnets, gateway, Bastion."""
    space = IPv4Network("10.20.0.0/16")
    data = yaml.safe_load(whole_files()["site.yaml"])
    *subnets, last = prefixes
    data["network"]["subnets"] = [{"name": f"s{n}", "prefix": prefix} for n, prefix in enumerate(subnets)]
    del data["drillNetwork"], data["bastion" if not bastion else "gateway"]
    data["bastion" if bastion else "gateway"]["prefix"] = last
    examined = examine({"site.yaml": yaml.safe_dump(data).encode()})
    networks = [IPv4Network(prefix) for prefix in prefixes]
    outside = sum(not network.subnet_of(space) for network in networks)
    overlaps = sum(one.overlaps(two) for one, two in itertools.combinations(networks, 2))
    small = bastion and networks[-1].prefixlen > 26
    if small:
        outside -= not networks[-1].subnet_of(space)
        overlaps -= sum(networks[-1].overlaps(other) for other in networks[:-1])
    assert len(examined.findings) == outside + overlaps + small


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.sampled_from([None, "g1", "g2"]), min_size=2, max_size=5),
    st.lists(st.sampled_from([None, 0, 1]), min_size=5, max_size=5),
)
def test_replication_groups_are_recovered_whole(groups: list[str | None], planned: list[int | None]) -> None:
    """A plan with one member has them all, in whatever order; a group has two members or more."""
    template = FILES["servers.yaml"].split("---\n", maxsplit=1)[0]
    servers: list[Any] = []
    plan: Any = {"kind": "RecoveryPlan", "name": "shop", "groups": [{"servers": []}, {"servers": []}]}
    for number, group in enumerate(groups):
        data = yaml.safe_load(template)
        data |= {"name": f"s{number}"} | ({"group": group} if group else {})
        data["ssh"]["address"], data["target"]["address"] = f"192.0.2.{number + 1}", f"10.20.1.{number + 10}"
        servers.append(data)
        place = planned[number]
        if place is not None:
            plan["groups"][place]["servers"].append(f"s{number}")
    plan["groups"] = [group for group in plan["groups"] if group["servers"]]
    files = {"site.yaml": FILES["site.yaml"], "policies.yaml": FILES["policies.yaml"]}
    files["servers.yaml"] = yaml.safe_dump_all(servers)
    if plan["groups"]:
        files["plans.yaml"] = yaml.safe_dump(plan)
    members = {name: [n for n, group in enumerate(groups) if group == name] for name in ("g1", "g2")}
    torn = sum(len({planned[n] is None for n in some}) == 2 for some in members.values())
    alone = sum(len(some) == 1 for some in members.values())
    assert len(examine(sources(files)).findings) == torn + alone


# Compiling -------------------------------------------------------------------------------------------------


def test_the_same_declaration_gives_the_same_blueprint() -> None:
    assert blueprints(declare()) == blueprints(declare())


def test_order_of_documents_makes_no_difference() -> None:
    web, db = FILES["servers.yaml"].split("---\n")
    examined = examine(sources({**FILES, "servers.yaml": f"{db}---\n{web}"}))
    assert examined.declaration is not None
    assert blueprints(examined.declaration) == blueprints(declare())


EDITS = [
    ("servers", "Standard_D2s_v5", "Standard_D4s_v5", {"failover.groups[1].servers[0].size"}),
    ("servers", "10.20.1.10", "10.20.1.11", {"failover.groups[1].servers[0].address"}),
    ("servers", "service: shop", "service: web", {"failover.groups[1].servers[0].tags.service"}),
    ("servers", "port: 2222", "port: 2223", {"site.protections[0].ssh.port"}),
    ("servers", "name: database", "name: db-vm", {"failover.groups[0].servers[0].virtual_machine"}),
    (
        "servers",
        "firmware: bios",
        "firmware: uefi",
        {"failover.groups[1].servers[0].generation", "site.protections[1].firmware"},
    ),
    ("servers", "/dev/sda", "/dev/sdb", {"site.protections[0].disks[0].device"}),
    (
        "servers",
        "name: data\n",
        "name: logs\n",
        {f"site.protections[0].disks[1].{key}" for key in ("name", "replica", "digests")}
        | {f"failover.groups[0].servers[0].disks[1].{key}" for key in ("name", "managed_disk", "copy_blob")},
    ),
    ("policies", "24h", "25h", {f"site.protections[{n}].retention_seconds" for n in (0, 1)}),
    (
        "policies",
        "every: 5m".replace("every", "crashConsistentEvery"),
        "crashConsistentEvery: 6m",
        {f"site.protections[{n}].crash_consistent_seconds" for n in (0, 1)},
    ),
    ("site", "[22, 8080]", "[22, 80, 8080]", {"site.zone.production.subnets[0].rules"}),
    ("site", "westeurope", "northeurope", {"vault.location", "site.location", "failover.location"}),
    ("plans", "timeout: 10m", "timeout: 11m", {"failover.groups[1].checks[0].timeout_seconds"}),
    ("plans", "contains: ok", "contains: fine", {"failover.groups[1].checks[0].contains"}),
]


WHOLE_EDITS = [
    ("sudoPassword: {file: secrets/sudo}", "sudoPassword: {keyStore: sudo}",
     {f"site.protections[2].ssh.sudo_password.{key}" for key in ("file", "key_store")}),
    ("{env: DB1_PASSWORD}", "{env: DB1_SECRET}",
     {"site.protections[0].ssh.password.env", "failover.groups[0].after[0].ssh.password.env"}),
    ("port: 2200", "port: 2201", {"site.protections[2].ssh.jump.port"}),
    ("zone: 2", "zone: 3",
     {f"failover.groups[1].servers[0].{key}" for key in ("zone", "capacity_group_id_suffix")}
     | {f"site.zone.capacity[1].{key}" for key in ("zone", "group", "reservations[0].name")}),
    ("inboundPorts: [8080]", "inboundPorts: [8081]",
     {f"site.zone.drill.subnets[0].rules[0].{key}" for key in ("name", "ports[0]")}),
    ("VpnGw2AZ", "VpnGw3AZ", {"site.zone.gateway.sku"}),
    ("198.51.100.7", "198.51.100.8", {"site.zone.gateway.peer_address"}),
    ("10.0.2.2/32", "10.0.2.0/24", {"site.zone.gateway.site_prefixes[1]"}),
    ("{keyStore: vpn-key}", "{keyStore: other-key}", {"site.zone.gateway.secret.key_store"}),
    ("shop.example.internal", "shop.example.net", {"site.zone.private_zone.zone"}),
    ("monthlyAmount: 400", "monthlyAmount: 500", {"site.zone.budget.monthly_amount"}),
    ("starts: 2027-01", "starts: 2027-02", {"site.zone.budget.starts"}),
    ("[ops@example.org, dr@example.org]", "[ops@example.org]", {"site.zone.watch.addresses"}),
    ("status: 204", "status: 200", {"failover.groups[1].checks[0].status"}),
    # db2 declares none, so nobody is asked there.
    ("appConsistentEvery: 12h", "appConsistentEvery: 6h",
     {f"site.protections[{n}].app_consistent_seconds" for n in (0, 2)}),
    ("/etc/lifeboat-db.conf", "/etc/other.conf", {"site.protections[0].applications[0].settings"}),
    ("[/usr/local/sbin/shop, resume]", "[/usr/local/sbin/shop, go-on]",
     {"site.protections[2].applications[0].post[1]"}),
]  # fmt: skip


@pytest.mark.parametrize(("file", "old", "new", "changes"), EDITS, ids=[edit[2] for edit in EDITS])
def test_editing_one_value_changes_only_that(file: str, old: str, new: str, changes: set[str]) -> None:
    found = set(differences(blueprints(declare()), blueprints(declare(**{file: (old, new)}))))
    assert found == changes


@pytest.mark.parametrize(("old", "new", "changes"), WHOLE_EDITS, ids=[edit[1] for edit in WHOLE_EDITS])
def test_editing_one_value_of_the_whole_estate_changes_only_that(old: str, new: str, changes: set[str]) -> None:
    found = set(differences(blueprints(declared(whole())), blueprints(declared(whole((old, new))))))
    assert found == changes


def test_a_drill_network_may_have_productions_addresses_and_is_never_productions() -> None:
    declaration = declared(whole())
    assert declaration.site.drill_network is not None
    assert declaration.site.drill_network.address_space == declaration.site.network.address_space
    zone = site(declaration, SUBSCRIPTION).zone
    assert zone.drill is not None
    assert zone.drill.name != zone.production.name


def test_the_first_disk_boots_and_the_others_are_numbered() -> None:
    groups = failover(declare(), "shop", RUN, "latest", SUBSCRIPTION).groups
    assert [disk.lun for disk in groups[0].servers[0].disks] == [None, 0]
    assert [group.servers[0].generation for group in groups] == ["V2", "V1"]


def test_a_declared_tag_never_replaces_ours() -> None:
    recovered = failover(declare(), "shop", RUN, "latest", SUBSCRIPTION).groups[1].servers[0]
    ours = {"lifeboat-site": "harbour", "lifeboat-plan": "shop", "lifeboat-run": RUN, "lifeboat-server": "web1"}
    assert recovered.tags == {"service": "shop"} | ours


def test_unknown_plan_and_impossible_run_are_refused() -> None:
    with pytest.raises(NotFound) as unknown:
        failover(declare(), "shpo", RUN, "latest", SUBSCRIPTION)
    assert unknown.value.remedy == 'did you mean "shop"?'
    for run in ("", "a_b", "-a", "a" * 25, "a--b", "a\n"):
        with pytest.raises(Refused):
            failover(declare(), "shop", run, "latest", SUBSCRIPTION)


def name(longest: int, pattern: str = "[a-z][a-z0-9]{0,5}(-[a-z0-9]{1,6}){0,6}") -> st.SearchStrategy[str]:
    return st.from_regex(pattern, fullmatch=True).filter(lambda text: len(text) <= longest) | st.just("a" * longest)


@MANY
@given(
    name(SITE_NAME_LENGTH),
    name(SUBNET_NAME_LENGTH),
    name(SERVER_NAME_LENGTH),
    name(DISK_NAME_LENGTH, "[a-z][a-z0-9]{0,11}"),
    name(PLAN_NAME_LENGTH),
    name(names.RUN_LENGTH),
    st.uuids().map(str),
)
def test_every_name_is_within_azures_rules(
    site_name: str, subnet: str, server: str, disk: str, plan: str, run: str, subscription: str
) -> None:
    group = re.compile(r"[A-Za-z0-9_().-]{0,89}[A-Za-z0-9_()-]")
    resource = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,78}[A-Za-z0-9_])?")
    declared = dataclasses.replace(declare().site, name=site_name)
    for text in (names.vault_resource_group(declared), names.site_resource_group(declared)):
        assert group.fullmatch(text)
    assert group.fullmatch(names.run_resource_group(plan, run))
    assert re.fullmatch(r"[a-z0-9]{3,24}", names.storage_account(site_name, subscription))
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{1,49}", names.recovery_vault(site_name))
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}[A-Za-z0-9_]", names.virtual_network(site_name))
    for text in (
        names.security_group(site_name, subnet),
        names.nic(run, server),
        names.managed_disk(run, server, disk),
    ):
        assert resource.fullmatch(text)
    for text in (names.run_copy_blob(plan, run, server, disk), names.replica_blob(server, disk)):
        assert len(text) <= 1024
    assert MACHINE_NAME_LENGTH <= 64


@MANY
@given(
    st.lists(st.tuples(name(12), name(4, "[a-z][a-z0-9]{0,3}")), min_size=2, max_size=6, unique=True),
)
def test_disks_of_one_run_never_share_a_name(disks: list[tuple[str, str]]) -> None:
    made = {names.managed_disk(RUN, server, disk) for server, disk in disks}
    assert len(made) == len(disks)
