"""What is in a resource group, by one contract on both targets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from dr.errors import NotFound, Refused, Unreachable
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders
from dr.target.inventory import exists, resource_ids
from dr.target.reach import reach
from tests.target.fake_azure import FakeAzure

SUBSCRIPTION = "3f2b1c5e-7a64-4c1d-9d5b-0a1b2c3d4e5f"


@dataclass
class World:
    """A target with a way to put resources into it."""

    subscription: str
    ids: Callable[[str], tuple[str, ...]]
    exists: Callable[[str], bool | None]
    put: Callable[[str], None]

    def add(self, group: str, what: str) -> str:
        scope = f"/subscriptions/{self.subscription}/resourceGroups/{group}"
        self.put(scope)
        self.put(f"{scope}/providers/{what}")
        return f"{scope}/providers/{what}"


@pytest.fixture(params=["local", "azure"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    if request.param == "azure":
        fake = FakeAzure(SUBSCRIPTION)

        def put_in_azure(name: str) -> None:
            fake.resources[name.lower()] = {"id": name, "properties": {}}

        return World(
            SUBSCRIPTION,
            lambda group: resource_ids(SUBSCRIPTION, group, azure=fake.azure()),
            lambda name: exists(SUBSCRIPTION, name, azure=fake.azure()),
            put_in_azure,
        )
    folders = Folders(tmp_path)
    folders.resources.mkdir(parents=True)

    def put_here(name: str) -> None:
        record = json.dumps({"state": "ready", "id": name})
        (folders.resources / f"{len(list(folders.resources.iterdir()))}.json").write_text(record)

    return World(
        LOCAL_SUBSCRIPTION,
        lambda group: resource_ids(LOCAL_SUBSCRIPTION, group, folders),
        lambda name: exists(LOCAL_SUBSCRIPTION, name, folders),
        put_here,
    )


def test_a_group_that_is_not_there_is_empty(world: World) -> None:
    assert world.ids("rg-none") == ()


def test_what_lies_in_a_group_is_listed_in_order_and_nothing_of_another(world: World) -> None:
    second = world.add("rg-a", "Microsoft.Network/virtualNetworks/vnet")
    first = world.add("rg-a", "Microsoft.Compute/disks/disk")
    world.add("rg-ab", "Microsoft.Compute/disks/disk")
    assert world.ids("rg-a") == (first, second)
    assert world.ids("RG-A") == (first, second)


def test_a_resource_is_there_or_not_whatever_its_capitals(world: World) -> None:
    network = world.add("rg-a", "Microsoft.Network/virtualNetworks/vnet")
    assert world.exists(network.upper().replace("/SUBSCRIPTIONS", "/subscriptions")) is True
    assert world.exists(f"{network}-other") is False
    assert world.exists(f"{network}/subnets/front") is False
    world.put(f"{network}/subnets/front")
    assert world.exists(f"{network}/subnets/front") is True


def test_azure_says_what_it_cannot_tell_and_why() -> None:
    fake = FakeAzure(SUBSCRIPTION)
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-a"
    assert exists(SUBSCRIPTION, f"{group}/providers/Microsoft.Made/up/x", azure=fake.azure()) is None
    fake.forbidden = "rg-a"
    with pytest.raises(Refused, match="resource group rg-a: this login may not"):
        resource_ids(SUBSCRIPTION, "rg-a", azure=fake.azure())
    fake.forbidden = "nothing"
    elsewhere = group.replace(SUBSCRIPTION, "00000000-7a64-4c1d-9d5b-0a1b2c3d4e5f")
    with pytest.raises(NotFound) as unseen:  # not "it is gone": this login sees nothing of that subscription
        exists(SUBSCRIPTION, f"{elsewhere}/providers/Microsoft.Compute/disks/d", azure=fake.azure())
    assert unseen.value.code == "subscription-not-found" and "az account show" in unseen.value.remedy
    fake.silent = True
    with pytest.raises(Unreachable):
        exists(SUBSCRIPTION, f"{group}/providers/Microsoft.Compute/disks/d", azure=fake.azure())


def test_in_azure_a_port_is_reached_at_the_address_itself() -> None:
    assert reach(SUBSCRIPTION, "rg-a", "web1", "10.20.1.10", 8080) == ("10.20.1.10", 8080)
