"""What Azure refuses, the stand-in refuses, with Azure's code in the text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dr.errors import LifeboatError
from dr.local.standin.records import Records
from tests.local.driving import GROUP, LOCATION, Driver, nic, nsg, rule, subnet, vnet


@pytest.fixture
def azure(tmp_path: Path) -> Driver:
    return Driver(tmp_path)


def code(call: Callable[[], Any]) -> str:
    """Return the code of what `call` is refused with; the text has to begin with it."""
    with pytest.raises(LifeboatError) as caught:
        call()
    assert caught.value.message.startswith(f"{caught.value.code}: ")
    return caught.value.code


def test_ids_and_outputs_are_as_azure_builds_them(azure: Driver) -> None:
    azure.group()
    _, _, made = azure.network()
    network = "/resourceGroups/rg/providers/Microsoft.Network/virtualNetworks/vnet"
    assert made.id == f"/subscriptions/00000000-10ca-4000-8000-000000000000{network}/subnets/subnet"
    assert made.outputs["provisioningState"] == "Succeeded"
    assert made.outputs["type"] == "Microsoft.Network/virtualNetworks/subnets"
    interface = azure.nic(made, tags={"a": "b"})
    assert interface.outputs["ipConfigurations"][0]["privateIPAddress"] == "10.0.1.9"
    assert interface.outputs["tags"] == {"a": "b", "LOCAL": "realised on this machine"}


def test_an_existing_id_is_refused_whatever_its_case(azure: Driver) -> None:
    azure.group()
    assert code(azure.group) == "ResourceExists"
    again = {"resourceGroupName": "RG", "location": LOCATION}
    assert code(lambda: azure.create("resources:ResourceGroup", **again)) == "ResourceExists"


def test_missing_parents_are_refused(azure: Driver) -> None:
    assert code(lambda: azure.create("network:VirtualNetwork", **vnet())) == "ResourceGroupNotFound"
    azure.group()
    assert code(lambda: azure.create("network:Subnet", **subnet())) == "ParentResourceNotFound"


@pytest.mark.parametrize(
    ("prefix", "wanted"),
    [
        ("10.1.0.0/24", "NetcfgSubnetRangeOutsideVnet"),
        ("10.0.1.128/25", "NetcfgSubnetRangesOverlap"),
        ("10.0.2.1/24", "InvalidCIDRNotation"),
    ],
)
def test_a_subnet_has_to_fit(azure: Driver, prefix: str, wanted: str) -> None:
    azure.group()
    azure.network()
    assert code(lambda: azure.create("network:Subnet", **subnet(prefix=prefix, name="other"))) == wanted


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("10.0.2.9", "PrivateIPAddressNotInSubnet"),
        ("10.0.1.3", "PrivateIPAddressInReservedRange"),
        ("10.0.1.255", "PrivateIPAddressInReservedRange"),
        ("10.0.1.9", "PrivateIPAddressIsAllocated"),
        ("host", "InvalidIPAddressFormat"),
    ],
)
def test_an_address_has_to_be_free_and_in_its_subnet(azure: Driver, address: str, wanted: str) -> None:
    azure.group()
    _, _, made = azure.network()
    azure.nic(made)
    assert code(lambda: azure.nic(made, address, "second")) == wanted


def test_a_dynamic_address_is_the_first_free_one(azure: Driver) -> None:
    azure.group()
    _, _, made = azure.network()
    azure.nic(made, "10.0.1.4")
    assert azure.nic(made, "", "second").outputs["ipConfigurations"][0]["privateIPAddress"] == "10.0.1.5"


def test_a_nic_lies_in_the_region_of_its_network(azure: Driver) -> None:
    azure.group()
    _, _, made = azure.network()
    elsewhere = {**nic(made), "location": "northeurope"}
    assert code(lambda: azure.create("network:NetworkInterface", **elsewhere)) == "InvalidResourceReference"
    with_spaces = {**nic(made), "location": "West Europe"}
    assert azure.create("network:NetworkInterface", **with_spaces).id


def test_what_is_in_use_is_not_deleted(azure: Driver) -> None:
    azure.group()
    network, security, made = azure.network()
    interface = azure.nic(made)
    assert code(lambda: azure.delete(made)) == "InUseSubnetCannotBeDeleted"
    assert code(lambda: azure.delete(network)) == "InUseSubnetCannotBeDeleted"
    assert code(lambda: azure.delete(security)) == "InUseNetworkSecurityGroupCannotBeDeleted"
    for one in (interface, made, security, network):
        azure.delete(one)
        assert not azure.exists(one)


def test_a_prefix_in_use_does_not_change(azure: Driver) -> None:
    azure.group()
    network, security, made = azure.network()
    azure.nic(made)
    moved = subnet(security, prefix="10.0.2.0/24")
    assert code(lambda: azure.update(made, **moved)) == "InUsePrefixCannotBeDeleted"
    smaller = {"addressSpace": {"addressPrefixes": ["10.0.2.0/24"]}}
    assert code(lambda: azure.update(network, **vnet(**smaller))) == "InUsePrefixCannotBeDeleted"


def test_security_rules_have_their_own_priorities(azure: Driver) -> None:
    azure.group()
    clash = {**nsg(), "securityRules": [rule(22, name="a"), rule(23, name="b")]}
    assert code(lambda: azure.create("network:NetworkSecurityGroup", **clash)) == "SecurityRuleConflict"
    wrong = {**nsg(), "securityRules": [rule(22, priority=99)]}
    assert code(lambda: azure.create("network:NetworkSecurityGroup", **wrong)) == "SecurityRuleInvalidPriority"


def test_tags_and_rules_are_updated_in_place(azure: Driver) -> None:
    azure.group()
    _, security, _ = azure.network()
    changed = azure.update(security, **nsg(22, 443), tags={"a": "b"})
    assert [r["destinationPortRange"] for r in changed.outputs["securityRules"]] == ["22", "443"]
    assert changed.outputs["tags"]["a"] == "b"
    assert azure.exists(changed)


def test_an_update_of_what_is_gone_names_refresh(azure: Driver) -> None:
    group = azure.group()
    azure.delete(group)
    with pytest.raises(LifeboatError, match="ResourceNotFound") as caught:
        azure.update(group, **group.inputs)
    assert "refresh" in caught.value.remedy


def test_delete_is_idempotent_and_a_group_takes_its_members_along(azure: Driver) -> None:
    group = azure.group()
    network, security, made = azure.network()
    interface = azure.nic(made)
    azure.delete(group)
    assert not any(azure.exists(one) for one in (group, network, security, made, interface))
    azure.delete(group)
    azure.delete(interface)


def test_a_lock_forbids_deleting_and_goes_first(azure: Driver) -> None:
    group = azure.group()
    network, _, _ = azure.network()
    lock = azure.create("authorization:ManagementLockByScope", scope=group.id, lockName="keep", level="CanNotDelete")
    assert code(lambda: azure.delete(network)) == "ScopeLocked"
    assert code(lambda: azure.delete(group)) == "ScopeLocked"
    azure.delete(lock)
    azure.delete(group)
    assert not azure.exists(network)


def test_a_read_only_lock_forbids_changes(azure: Driver) -> None:
    group = azure.group()
    azure.create("authorization:ManagementLockByScope", scope=group.id, lockName="still", level="ReadOnly")
    assert code(lambda: azure.create("network:VirtualNetwork", **vnet())) == "ScopeLocked"


def test_what_a_dead_maker_began_counts_as_absent(azure: Driver) -> None:
    group = azure.group()
    records = Records(azure.folders.resources)
    record = records.find(group.id)
    assert record is not None
    records.save(dataclasses.replace(record, state="creating", maker={"pid": 1, "started": 1.0}))
    assert not azure.exists(group)
    assert azure.group().id == group.id


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        ({"createOption": "Empty"}, "InvalidParameter"),
        ({"createOption": "Import", "sourceUri": "http://127.0.0.1/a/b/c"}, "InvalidParameter"),
        ({"createOption": "Import", "storageAccountId": "x"}, "InvalidParameter"),
        ({"createOption": "Copy"}, "NotRealised"),
        (
            {"createOption": "Import", "sourceUri": "http://127.0.0.1/a/b/c", "storageAccountId": "/subscriptions/x"},
            "InvalidResourceReference",
        ),
    ],
)
def test_creation_data_has_to_be_whole(azure: Driver, data: dict[str, Any], wanted: str) -> None:
    azure.group()
    inputs = {"diskName": "d", "location": LOCATION, **GROUP, "creationData": data}
    assert code(lambda: azure.create("compute:Disk", **inputs)) == wanted


def test_an_import_reads_back_what_is_there(azure: Driver) -> None:
    group = azure.group()
    bare = dataclasses.replace(group, inputs={}, outputs={})
    answer = azure.read(bare)
    assert answer.resource_id == group.id
    assert answer.inputs["location"].value == LOCATION
