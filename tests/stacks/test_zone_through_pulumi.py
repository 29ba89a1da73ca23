"""The landing zone by the real Pulumi CLI on target local: stable, one value one change, and gone again."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from dr.local.tools import checkout
from tests.stacks.projects import Estate, local_estate

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

STACK = "site-local"
MONTH = datetime.now(UTC).strftime("%Y-%m")
KEY = "LIFEBOAT_TEST_TUNNEL_KEY"
SECRET = "hush-hush-tunnel"
OPTIONS = f"""
gateway:
  prefix: 10.20.255.0/27
  vpn:
    peerAddress: 203.0.113.7
    sitePrefixes: [192.168.10.0/24]
    sharedKey: {{env: {KEY}}}
privateDnsZone: shop.example.internal
bastion:
  prefix: 10.20.254.0/26
budget:
  monthlyAmount: 900
  starts: {MONTH}
alerts: [ops@example.com]
"""


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """A site without servers, whose protection would need machines, and with everything else that it can declare."""
    root = tmp_path_factory.mktemp("zone")
    (root / "declared").mkdir()
    for name in ("site.yaml", "policies.yaml"):
        shutil.copy(checkout() / "plans" / name, root / "declared")
    with (root / "declared" / "site.yaml").open("a") as file:
        file.write(OPTIONS)
    with local_estate(root, root / "declared") as made:
        made.run("vault-local", "up")
        yield made


def with_key(estate: Estate, key: str = SECRET) -> Estate:
    return dataclasses.replace(estate, variables={**estate.variables, KEY: key})


@pytest.fixture(scope="module")
def zone(estate: Estate) -> Estate:
    whole = with_key(estate)
    assert {step.split()[0] for step in whole.run(STACK, "preview")} == {"create"}
    assert records(whole) == set()  # a preview makes nothing
    whole.run(STACK, "up")
    return whole


def records(estate: Estate, group: str = "rg-lifeboat-harbour-site") -> set[str]:
    """Return the last parts of the ids of what the local target has in a resource group, `TYPE/NAME`."""
    found = [json.loads(path.read_bytes())["id"] for path in estate.folders.resources.glob("*.json")]
    return {"/".join(one.split("/")[-2:]) for one in found if f"/resourcegroups/{group}/" in one.lower()}


def test_a_reference_that_leads_nowhere_is_one_error_before_anything_is_registered(estate: Estate) -> None:
    refused = estate.pulumi(STACK, "up", "--yes", "--skip-preview")
    assert refused.returncode != 0
    said = refused.stdout + refused.stderr
    assert f"site: gateway.vpn.sharedKey: the environment variable {KEY} is not set" in said
    assert "remedy: set" in said
    assert "azure-native" not in said
    assert "Traceback" not in said
    assert records(estate) == set()


def test_a_second_up_changes_nothing(zone: Estate) -> None:
    made = records(zone)
    assert {"natGateways/ng-harbour", "bastionHosts/bas-harbour", "connections/con-harbour"} < made
    assert zone.run(STACK, "up") == []
    assert zone.run(STACK, "preview") == []
    assert records(zone) == made


def test_the_shared_key_is_in_nothing_that_is_written_down_or_said(zone: Estate) -> None:
    exported = zone.pulumi(STACK, "stack", "export").stdout
    assert "con-harbour" in exported
    assert SECRET not in exported
    said = [zone.pulumi(STACK, *words).stdout for words in (("preview", "--diff"), ("stack",), ("history",))]
    assert SECRET not in "".join(said)
    written = [path for path in zone.folders.root.rglob("*") if path.is_file() and not path.is_socket()]
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]
    shown = zone.pulumi(STACK, "stack", "export", "--show-secrets").stdout
    assert SECRET in shown  # so the search above looked for the right thing


REPLACED_HOST = [
    f"{step} {kind}" for step in ("create", "delete") for kind in ("BastionHost", "DiagnosticSetting", "Subnet")
]
EDITS = [
    ("monthlyAmount: 900", "monthlyAmount: 950", ["update Budget"]),
    ("[ops@example.com]", "[ops@example.com, boss@example.com]", ["update ActionGroup"]),
    ("[192.168.10.0/24]", "[192.168.10.0/24, 192.168.11.0/24]", ["update LocalNetworkGateway"]),
    ("    peerAddress:", "    sku: VpnGw2AZ\n    peerAddress:", ["update VirtualNetworkGateway"]),
    ("10.20.254.0/26", "10.20.254.64/26", ["update NetworkSecurityGroup", *REPLACED_HOST]),
    ("[22, 8080]", "[22, 443]", ["update NetworkSecurityGroup"]),
    (
        "privateDnsZone: shop.example.internal\n",
        "",
        ["delete PrivateZone", "delete PrivateZone", "delete VirtualNetworkLink"],
    ),
    (
        f"budget:\n  monthlyAmount: 900\n  starts: {MONTH}\n",
        "",
        ["delete Budget", "delete Spending"],
    ),
]


@pytest.mark.parametrize(("before", "after", "steps"), EDITS, ids=[edit[0].strip().split(":")[0] for edit in EDITS])
def test_one_value_is_one_change(zone: Estate, before: str, after: str, steps: list[str]) -> None:
    site = zone.plans / "site.yaml"
    text = site.read_text()
    zone.edit("site.yaml", before, after)
    found = zone.run(STACK, "preview")
    site.write_text(text)
    # A replacement is shown as what is deleted, what is made, and once more as both.
    plain = [step.replace("-replaced", "").replace("-replacement", "") for step in found]
    assert sorted(step for step in plain if not step.startswith("replace ")) == sorted(steps)


def test_another_shared_key_changes_the_connection_alone(zone: Estate) -> None:
    assert with_key(zone, "another").run(STACK, "preview") == ["update VirtualNetworkGatewayConnection"]


def test_bastion_goes_and_comes_back_without_touching_the_rest(zone: Estate) -> None:
    site = zone.plans / "site.yaml"
    text, made = site.read_text(), records(zone)
    zone.edit("site.yaml", "bastion:\n  prefix: 10.20.254.0/26\n", "")
    zone.run(STACK, "up")
    gone = made - records(zone)
    assert gone == {
        "bastionHosts/bas-harbour",
        "publicIPAddresses/pip-harbour-bastion",
        "networkSecurityGroups/nsg-harbour--bastion",
        "subnets/AzureBastionSubnet",
        "diagnosticSettings/lifeboat",
    } - records(zone)
    site.write_text(text)
    steps = zone.run(STACK, "up")
    assert {step.split()[0] for step in steps} == {"create", "update"}
    assert {step for step in steps if step.startswith("update")} == {"update NetworkSecurityGroup"}
    assert records(zone) == made
    assert zone.run(STACK, "preview") == []


def test_what_was_deleted_by_hand_is_found_and_made_again(zone: Estate) -> None:
    made = records(zone)
    for name in ("con-harbour", "production"):  # the connection, and the zone's link to the network
        (path,) = [
            path for path in zone.folders.resources.glob("*.json") if json.loads(path.read_bytes())["name"] == name
        ]
        path.unlink()
    assert zone.run(STACK, "preview") == []  # the state still believes in them
    refreshed = zone.pulumi(STACK, "refresh", "--yes", "--skip-preview")
    assert refreshed.returncode == 0, refreshed.stdout + refreshed.stderr
    assert sorted(zone.run(STACK, "up")) == ["create VirtualNetworkGatewayConnection", "create VirtualNetworkLink"]
    assert records(zone) == made


def test_destroy_takes_all_of_the_site_and_nothing_of_the_vault(zone: Estate) -> None:
    kept = records(zone, "rg-lifeboat-harbour-vault")
    assert kept
    zone.run(STACK, "destroy")
    assert records(zone) == set()
    assert records(zone, "rg-lifeboat-harbour-vault") == kept
    assert zone.run("vault-local", "preview") == []
