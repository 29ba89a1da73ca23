"""What is imported, what is taken over, what is left alone: from Pulumi's own previews, and hostile ones."""

from __future__ import annotations

from typing import Any

import pytest

from dr.rebuild.planning import UNKNOWN, Step, arm_id, harmless, importable, missing, steps, targets

SUBSCRIPTION = "00000000-10ca-4000-8000-000000000000"
GROUP, SUBNET = "azure-native:resources:ResourceGroup", "azure-native:network:Subnet"
TEMPLATES = {GROUP: "/resourceGroups/{resourceGroupName}", SUBNET: "/resourceGroups/{resourceGroupName}/s/{subnetName}"}


def id_of(kind: str, inputs: Any) -> str | None:
    return arm_id(TEMPLATES[kind], inputs, SUBSCRIPTION) if kind in TEMPLATES else None


def step(kind: str, name: str, op: str = "create", **inputs: str) -> Step:
    return Step(op, f"urn:pulumi:site-local::lifeboat::{kind}::{name}", kind, name, inputs)


@pytest.mark.parametrize(
    ("template", "inputs", "wanted"),
    [
        (
            "/resourceGroups/{resourceGroupName}",
            {"resourceGroupName": "g"},
            f"/subscriptions/{SUBSCRIPTION}/resourceGroups/g",
        ),
        ("/resourceGroups/{resourceGroupName}", {"resourceGroupName": UNKNOWN}, None),
        ("/resourceGroups/{resourceGroupName}", {}, None),
        ("/{scope}/providers/x/{name}", {"scope": "/subscriptions/s/", "name": "n"}, "/subscriptions/s/providers/x/n"),
        ("/{scope}/providers/x/{name}", {"scope": f"{UNKNOWN}/blobServices", "name": "n"}, None),
        ("/{scope}/providers/x/{name}", {"scope": {"a": 1}, "name": "n"}, None),
    ],
)
def test_an_id_follows_from_the_inputs_or_is_not_known_yet(
    template: str, inputs: dict[str, Any], wanted: str | None
) -> None:
    assert arm_id(template, inputs, SUBSCRIPTION) == wanted


def test_a_round_imports_what_can_be_named_with_the_component_above_it() -> None:
    todo = [
        step(GROUP, "rg", resourceGroupName="rg"),
        step(SUBNET, "a", resourceGroupName="rg", subnetName="a"),
        step(SUBNET, "b", resourceGroupName="rg", subnetName=UNKNOWN),
        step("dr:index:VaultAccess", "harbour"),
        step("azure-native:strange:Thing", "x"),
    ]
    wanted: list[dict[str, Any]] = [
        {"type": "lifeboat:site:VirtualNetwork", "name": "drill", "component": True},
        {"type": "lifeboat:site:VirtualNetwork", "name": "production", "component": True},
        {"type": GROUP, "name": "rg", "id": "<PLACEHOLDER>"},
        {"type": SUBNET, "name": "aSubnet", "logicalName": "a", "id": "<PLACEHOLDER>", "parent": "production"},
        {"type": SUBNET, "name": "b", "id": "<PLACEHOLDER>", "parent": "drill"},
        {"type": "dr:index:VaultAccess", "name": "harbour", "id": "<PLACEHOLDER>"},
    ]
    turn = importable(todo, wanted, id_of)
    assert [entry["name"] for entry in turn.entries] == ["production", "rg", "aSubnet"]
    assert turn.entries[2]["id"] == f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/s/a"
    assert set(turn.ids) == {todo[0].urn, todo[1].urn}
    assert importable(todo[2:], wanted, id_of).entries == []


def test_only_what_takes_over_or_makes_the_folder_again_is_harmless() -> None:
    assert harmless(step("dr:index:Protection", "shop1"))
    assert harmless(step("dr:index:SiteServers", "harbour", "update"))
    assert harmless(step("lifeboat:site:VirtualNetwork", "production"))
    assert harmless(step("pulumi:pulumi:Stack", "lifeboat-site-local"))
    for left in (
        step("dr:index:Protection", "shop1", "update"),
        step("dr:index:Protection", "shop1", "delete"),
        step("dr:index:SiteServers", "harbour", "replace"),
        step("dr:index:RecoveryPoint", "shop1"),
        step("dr:index:BlobCopy", "shop1"),
        step(GROUP, "rg"),
        step(GROUP, "rg", "update"),
        step("pulumi:pulumi:Stack", "x", "delete"),
    ):
        assert not harmless(left), left.label


def test_a_preview_is_read_without_what_stays() -> None:
    urn = "urn:pulumi:site-local::lifeboat::lifeboat:site:Outbound$azure-native:network:NatGateway::ng"
    state = {"type": "azure-native:network:NatGateway", "inputs": {"natGatewayName": "ng"}}
    preview = {"steps": [{"op": "same", "urn": urn}, {"op": "update", "urn": urn, "newState": state}]}
    (only,) = steps(preview)
    assert (only.type, only.name, only.label) == ("azure-native:network:NatGateway", "ng", "update NatGateway ng")
    assert steps({"steps": [{"op": "delete", "urn": urn, "oldState": state}]})[0].inputs == state["inputs"]
    assert list(targets([only])) == ["--target", urn]
    assert steps({}) == []


def test_what_an_import_failed_for_is_found_by_its_words() -> None:
    ids = {step(GROUP, name).urn: f"/subscriptions/s/resourceGroups/{name}" for name in ("rg", "rg-other")}
    one, other = ids
    assert missing([f"{one}: does not exist"], ids) == {one}
    assert missing(["resource '/subscriptions/s/resourcegroups/rg-other' does not exist (remedy: x)"], ids) == {other}
    assert missing(["the plugin ended"], ids) == set()
