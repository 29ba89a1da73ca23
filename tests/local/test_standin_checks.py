"""What the stand-in refuses before anything is made, and what it calls a difference."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pulumi.provider.experimental import provider as sdk

from dr.errors import Refused
from dr.plugin.values import UNKNOWN, wrap_all
from dr.target.folders import LOCAL_SUBSCRIPTION
from tests.local.driving import GROUP, LOCATION, Driver, configure_request, nsg, urn

DISK = {**GROUP, "creationData": {"createOption": "Empty"}, "location": LOCATION}


@pytest.fixture
def azure(tmp_path: Path) -> Driver:
    return Driver(tmp_path)


def test_a_foreign_subscription_is_refused(azure: Driver) -> None:
    foreign = "11111111-2222-4333-8444-555555555555"
    inputs = wrap_all({"subscriptionId": foreign})
    answer = asyncio.run(
        azure.standin.check_config(sdk.CheckRequest(urn("pulumi:providers:azure-native"), {}, inputs, b""))
    )
    assert answer.failures
    assert answer.failures[0].property == "subscriptionId"
    assert foreign in answer.failures[0].reason
    with pytest.raises(Refused, match=LOCAL_SUBSCRIPTION):
        asyncio.run(azure.standin.configure(configure_request(foreign)))


def test_a_good_program_passes(azure: Driver) -> None:
    assert azure.check("compute:Disk", diskName="d", **DISK, tags={"a": "b"}) == {}
    assert azure.check("network:NetworkSecurityGroup", **nsg(22, 443)) == {}


def test_an_unknown_of_a_preview_passes_anywhere(azure: Driver) -> None:
    inputs = {**DISK, "creationData": UNKNOWN, "tags": {"point": UNKNOWN}, "hyperVGeneration": UNKNOWN}
    assert azure.check("compute:Disk", diskName=UNKNOWN, **inputs) == {}


@pytest.mark.parametrize(
    ("more", "path", "reason"),
    [
        ({"creationDta": {}}, "creationDta", 'did you mean "creationData"?'),
        ({"creationData": {"createOption": "Empty", "sourceUrl": "x"}}, "creationData.sourceUrl", 'mean "sourceUri"?'),
        ({"creationData": {}}, "creationData.createOption", "missing required property"),
        ({"creationData": None}, "creationData", "missing required property"),
        ({"creationData": {"createOption": "Imported"}}, "creationData.createOption", 'did you mean "Import"?'),
        ({"osType": "linux"}, "osType", 'did you mean "Linux"?'),
        ({"hyperVGeneration": "V3"}, "hyperVGeneration", "is not one of V1, V2"),
        ({"diskSizeGB": "10"}, "diskSizeGB", "expected a whole number, got '10'"),
        ({"zones": "1"}, "zones", "expected a list, got '1'"),
        ({"tags": {"a": 1}}, "tags.a", "expected a string, got 1"),
        ({"sku": "Premium_LRS"}, "sku", "expected an object, got 'Premium_LRS'"),
    ],
)
def test_a_wrong_property_is_named(azure: Driver, more: dict[str, object], path: str, reason: str) -> None:
    assert reason in azure.check("compute:Disk", **{"diskName": "d", **DISK, **more})[path]


def test_all_problems_of_a_resource_are_named_at_once(azure: Driver) -> None:
    assert set(azure.check("compute:Disk", nonsense=1, zones="1")) == {
        "nonsense",
        "zones",
        "creationData",
        "resourceGroupName",
    }


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ("compute:Snapshot", 'does not realise "azure-native:compute:Snapshot"'),
        ("compute:Dsk", 'the SDK has no type "azure-native:compute:Dsk" .did you mean "Disk"'),
        ("compte:Disk", 'the SDK has no module "compte"'),
        ("compute/v20240302:Disk", "names an API version"),
    ],
)
def test_a_type_that_is_not_realised_is_refused_by_name(azure: Driver, token: str, text: str) -> None:
    with pytest.raises(Refused, match=text):
        azure.check(token, **DISK)


def test_defaults_are_a_made_up_name_and_the_configured_location(azure: Driver) -> None:
    checked = azure.checked("compute:Disk", **GROUP, creationData={"createOption": "Empty"})
    assert checked["location"] == LOCATION
    assert checked["diskName"] == azure.checked("compute:Disk", **GROUP)["diskName"]
    assert checked["diskName"].startswith("thing")


def test_names_and_location_replace_and_the_old_one_goes_first(azure: Driver) -> None:
    found = azure.diff("compute:Disk", {"diskName": "d", **DISK}, {"diskName": "e", **DISK, "location": "northeurope"})
    assert sorted(found.replaces) == ["diskName", "location"]
    assert found.delete_before_replace


def test_creation_data_is_an_update_that_azure_then_refuses(azure: Driver) -> None:
    # The official plugin has no forceNew for Compute; programs say themselves what a new source replaces.
    found = azure.diff("compute:Disk", {"diskName": "d", **DISK}, {"diskName": "d", **DISK, "creationData": {}})
    assert found.changes is True
    assert found.replaces == []


def test_a_preview_makes_nothing(azure: Driver) -> None:
    made = azure.preview("compute:Disk", diskName="d", **DISK, tags={"a": UNKNOWN})
    assert made.outputs["name"] == "d"
    assert not azure.folders.resources.exists()
    assert not azure.folders.disks.exists()
