"""Storage in a real Azurite, disks imported from it, machines booted from them in a real QEMU."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobClient

from dr.errors import LifeboatError
from dr.local import services
from dr.local.azurite import Azurite
from dr.local.machines import Machine, load
from dr.target.folders import LOCAL_SUBSCRIPTION
from dr.target.reach import reach
from dr.vault.vhd import build_footer
from tests.local.driving import GROUP, LOCATION, PASSPHRASE, Driver, Made, nsg

pytestmark = pytest.mark.real

ACCOUNT = "stlbtest"
MIB = 1 << 20
# Prints HELLO at the first serial port and halts; see the boot sector's bytes: lodsb, out, jump, hlt.
HELLO = b"booted by the local target\r\n"
BOOT_SECTOR = (bytes.fromhex("31c08ed8be157cbaf803ac84c07403eeebf8f4ebfd") + HELLO + b"\0").ljust(
    510, b"\0"
) + b"\x55\xaa"
DISK_BYTES = 2 * MIB
CONTENT = BOOT_SECTOR + bytes(MIB - 512) + b"end of the disk ".ljust(512, b".") + bytes(MIB - 512)


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PULUMI_CONFIG_PASSPHRASE", PASSPHRASE)
        driver = Driver(tmp_path_factory.mktemp("local"))
        yield driver
        services.down(driver.folders, driver.log.said.append, stop_machines=True)


@pytest.fixture(scope="module")
def account(azure: Driver) -> Made:
    azure.group()
    sku = {"name": "Standard_LRS"}
    inputs = {"accountName": ACCOUNT, "kind": "StorageV2", "sku": sku, "location": LOCATION}
    return azure.create("storage:StorageAccount", **GROUP, **inputs)


@pytest.fixture(scope="module")
def container(azure: Driver, account: Made) -> Made:
    return azure.create("storage:BlobContainer", **GROUP, accountName=account.outputs["name"], containerName="runs")


@pytest.fixture(scope="module")
def subnet(azure: Driver, account: Made) -> Made:
    return azure.network()[2]


def blob(azure: Driver, name: str) -> BlobClient:
    azurite = Azurite(azure.folders)
    return BlobClient(f"{azurite.endpoint()}/{ACCOUNT}", "runs", name, credential=azurite.key(ACCOUNT))


def upload(azure: Driver, name: str, *, footer: bytes | None = None) -> str:
    """Upload CONTENT as a fixed VHD and return its address."""
    with blob(azure, name) as client:
        client.create_page_blob(DISK_BYTES + 512)
        client.upload_page(CONTENT[:512], 0, 512)
        client.upload_page(CONTENT[MIB : MIB + 512], MIB, 512)
        client.upload_page(footer or build_footer(DISK_BYTES, uuid.uuid4(), datetime.now(UTC)), DISK_BYTES, 512)
        return str(client.url)


def disk_inputs(account: Made, url: str, name: str, **more: Any) -> dict[str, Any]:
    data = {"createOption": "Import", "sourceUri": url, "storageAccountId": account.id}
    return {"diskName": name, "location": LOCATION, **GROUP, "creationData": data, "osType": "Linux", **more}


def vm_inputs(disk: Made, nic: Made, name: str, **more: Any) -> dict[str, Any]:
    os_disk = {"createOption": "Attach", "osType": "Linux", "managedDisk": {"id": disk.id}, "deleteOption": "Detach"}
    return {
        "vmName": name,
        "location": LOCATION,
        **GROUP,
        "hardwareProfile": {"vmSize": "Standard_B1s"},
        "storageProfile": {"osDisk": os_disk},
        "networkProfile": {"networkInterfaces": [{"id": nic.id, "primary": True}]},
        **more,
    }


def code(call: Callable[[], Any]) -> str:
    with pytest.raises(LifeboatError) as caught:
        call()
    return caught.value.code


def machine(azure: Driver, name: str) -> Machine:
    found = load(azure.folders.machines / name)
    assert found is not None
    return found


def wait_for_console(one: Machine, times: int = 1) -> None:
    assert wait(lambda: one.console.read_bytes().count(HELLO) == times), one.console.read_bytes()


def wait(condition: Callable[[], bool], seconds: float = 60) -> bool:
    import time

    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


def test_an_account_is_real_and_its_key_is_sealed(azure: Driver, account: Made, container: Made) -> None:
    endpoint = account.outputs["primaryEndpoints"]["blob"]
    assert endpoint == f"{Azurite(azure.folders).endpoint()}/{ACCOUNT}/"
    assert azure.exists(account)
    assert azure.exists(container)
    key = Azurite(azure.folders).key(ACCOUNT)
    for path in azure.folders.root.rglob("*"):
        if path.is_file():
            assert key.encode() not in path.read_bytes(), path
    with pytest.raises(HttpResponseError):
        BlobClient(f"{endpoint}".rstrip("/"), "runs", "x", credential="AAAA").get_blob_properties()


def test_a_taken_account_name_is_refused(azure: Driver, account: Made) -> None:
    other = {**account.inputs, "resourceGroupName": "other"}
    azure.create("resources:ResourceGroup", resourceGroupName="other", location=LOCATION)
    assert code(lambda: azure.create("storage:StorageAccount", **other)) == "StorageAccountAlreadyTaken"
    wrong = {**account.inputs, "accountName": "Not-Valid"}
    assert code(lambda: azure.create("storage:StorageAccount", **wrong)) == "AccountNameInvalid"


def test_a_deleted_account_leaves_nothing_to_its_successor(azure: Driver, account: Made) -> None:
    inputs = {**account.inputs, "accountName": "stlbshort"}
    short = azure.create("storage:StorageAccount", **inputs)
    held = azure.create("storage:BlobContainer", **GROUP, accountName="stlbshort", containerName="data")
    azure.delete(short)
    assert not azure.exists(short)
    assert not azure.exists(held)
    azure.create("storage:StorageAccount", **inputs)
    assert not azure.exists(held)


def test_a_container_removed_by_hand_is_gone(azure: Driver, container: Made) -> None:
    made = azure.create("storage:BlobContainer", **GROUP, accountName=ACCOUNT, containerName="short")
    with blob(azure, "x") as client:
        client._get_container_client().from_container_url(
            f"{Azurite(azure.folders).endpoint()}/{ACCOUNT}/short", credential=Azurite(azure.folders).key(ACCOUNT)
        ).delete_container()
    assert not azure.exists(made)


def test_an_import_holds_exactly_the_disk_in_the_vhd(azure: Driver, account: Made, container: Made) -> None:
    made = azure.create("compute:Disk", **disk_inputs(account, upload(azure, "good.vhd"), "good"))
    base = azure.folders.disks / "good" / "base.raw"
    assert base.read_bytes() == CONTENT
    assert base.stat().st_blocks * 512 < DISK_BYTES
    assert base.stat().st_mode & 0o777 == 0o400
    assert (made.outputs["diskSizeBytes"], made.outputs["hyperVGeneration"]) == (DISK_BYTES, "V1")
    assert code(lambda: azure.create("compute:Disk", **made.inputs)) == "ResourceExists"
    moved = disk_inputs(account, "http://127.0.0.1/other", "good")
    assert code(lambda: azure.update(made, **moved)) == "PropertyChangeNotAllowed"
    (azure.folders.disks / "good" / "disk.qcow2").unlink()
    assert not azure.exists(made)
    azure.delete(made)
    assert not base.parent.exists()


def test_what_is_no_whole_fixed_vhd_is_refused_and_leaves_nothing(
    azure: Driver, account: Made, container: Made
) -> None:
    good = build_footer(DISK_BYTES, uuid.uuid4(), datetime.now(UTC))
    torn = bytes([good[0] ^ 1]) + good[1:]
    smaller = build_footer(MIB, uuid.uuid4(), datetime.now(UTC))
    with blob(azure, "block.vhd") as client:
        client.upload_blob(b"x" * 1024)
    cases = {
        upload(azure, "torn.vhd", footer=torn): "InvalidVhd",
        upload(azure, "smaller.vhd", footer=smaller): "InvalidVhd",
        str(blob(azure, "block.vhd").url): "InvalidParameter",
        str(blob(azure, "missing.vhd").url): "BlobNotFound",
        f"{blob(azure, 'torn.vhd').url}?snapshot=2026-01-01": "InvalidParameter",
        "https://elsewhere.blob.core.windows.net/runs/x.vhd": "InvalidParameter",
    }
    for url, wanted in cases.items():
        assert code(lambda url=url: azure.create("compute:Disk", **disk_inputs(account, url, "bad"))) == wanted  # type: ignore[misc]
    assert not list(azure.folders.disks.glob("bad*"))


def test_a_cancelled_import_leaves_nothing(azure: Driver, account: Made, container: Made) -> None:
    url = upload(azure, "cancelled.vhd")
    azure.standin._cloud.cancelled.set()
    try:
        assert code(lambda: azure.create("compute:Disk", **disk_inputs(account, url, "cancelled"))) == "cancelled"
    finally:
        azure.standin._cloud.cancelled.clear()
    assert not list(azure.folders.disks.glob("cancelled*"))
    assert azure.create("compute:Disk", **disk_inputs(account, url, "cancelled")).id


def test_a_disk_lies_in_the_region_of_its_account(azure: Driver, account: Made, container: Made) -> None:
    elsewhere = disk_inputs(account, upload(azure, "region.vhd"), "region", location="northeurope")
    assert code(lambda: azure.create("compute:Disk", **elsewhere)) == "InvalidResourceReference"


def test_a_machine_boots_from_its_disk_and_holds_what_it_uses(
    azure: Driver, account: Made, container: Made, subnet: Made
) -> None:
    disk = azure.create("compute:Disk", **disk_inputs(account, upload(azure, "vm.vhd"), "vm-disk"))
    nic = azure.nic(subnet, "10.0.1.20", "vm-nic")
    made = azure.create("compute:VirtualMachine", **vm_inputs(disk, nic, "vm1", tags={"plan": "shop"}))
    one = machine(azure, "vm1")
    wait_for_console(one)
    assert made.outputs["vmId"] == one.spec.uuid
    assert (one.spec.address, one.spec.uefi) == ("10.0.1.20", False)
    assert reach(LOCAL_SUBSCRIPTION, "rg", "vm1", "10.0.1.20", 22, azure.folders) == ("127.0.0.1", one.ports[22])
    assert code(lambda: azure.delete(nic)) == "NicInUse"
    assert code(lambda: azure.delete(disk)) == "OperationNotAllowed"
    second = vm_inputs(disk, azure.nic(subnet, "10.0.1.21", "nic2"), "vm2")
    assert code(lambda: azure.create("compute:VirtualMachine", **second)) == "AttachDiskWhileBeingAttached"
    assert code(lambda: azure.create("compute:VirtualMachine", **made.inputs)) == "ResourceExists"
    _rules_reach_a_running_machine(azure, subnet)
    _a_killed_machine_is_gone_and_comes_back(azure, made)
    azure.delete(made)
    assert not (azure.folders.machines / "vm1").exists()
    assert (azure.folders.disks / "vm-disk" / "base.raw").read_bytes() == CONTENT
    azure.delete(nic)
    azure.delete(disk)


def _rules_reach_a_running_machine(azure: Driver, subnet: Made) -> None:
    before = machine(azure, "vm1").ports
    group_id = subnet.inputs["networkSecurityGroup"]["id"]
    security = Made("azure-native:network:NetworkSecurityGroup", group_id, nsg(22), {"name": "nsg"})
    azure.update(security, **nsg(22, 8080))
    after = machine(azure, "vm1").ports
    assert set(after) == {22, 8080}
    assert after[22] == before[22]
    listening = {c.laddr.port for c in psutil.Process(machine(azure, "vm1").identity.pid).net_connections("tcp")}
    assert set(after.values()) <= listening


def _a_killed_machine_is_gone_and_comes_back(azure: Driver, made: Made) -> None:
    assert azure.exists(made)
    process = machine(azure, "vm1").identity.process()
    assert process is not None
    process.kill()
    assert wait(lambda: not azure.exists(made))
    again = azure.create("compute:VirtualMachine", **made.inputs)
    assert again.outputs["vmId"] != made.outputs["vmId"]
    wait_for_console(machine(azure, "vm1"))
    tagged = azure.update(again, **{**made.inputs, "tags": {"plan": "other"}})
    assert tagged.outputs["tags"]["plan"] == "other"
    assert machine(azure, "vm1").spec.uuid == again.outputs["vmId"]


def test_a_machine_whose_maker_died_too_early_is_ended(
    azure: Driver, account: Made, container: Made, subnet: Made
) -> None:
    disk = azure.create("compute:Disk", **disk_inputs(account, upload(azure, "early.vhd"), "early"))
    made = azure.create("compute:VirtualMachine", **vm_inputs(disk, azure.nic(subnet, "10.0.1.30", "n3"), "early"))
    orphan = machine(azure, "early").identity
    (azure.folders.machines / "early" / "vm.json").unlink()
    assert not azure.exists(made)
    again = azure.create("compute:VirtualMachine", **made.inputs)
    assert wait(lambda: not orphan.alive())
    assert machine(azure, "early").alive()
    azure.delete(again)


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({"osProfile": {"computerName": "x"}}, "InvalidParameter"),
        ({"hardwareProfile": {"vmSize": "Gigantic"}}, "InvalidParameter"),
        ({"location": "northeurope"}, "InvalidResourceReference"),
        ({"networkProfile": {"networkInterfaces": []}}, "NotRealised"),
    ],
)
def test_a_vm_that_azure_would_not_make_is_refused(
    azure: Driver, account: Made, container: Made, subnet: Made, more: dict[str, Any], wanted: str
) -> None:
    tag = uuid.uuid4().hex[:6]
    empty = {"createOption": "Empty"}
    inputs = {"diskName": f"d{tag}", "location": LOCATION, **GROUP, "creationData": empty, "diskSizeGB": 1}
    disk = azure.create("compute:Disk", **inputs)
    nic = azure.nic(subnet, "", f"n{tag}")
    assert code(lambda: azure.create("compute:VirtualMachine", **{**vm_inputs(disk, nic, f"v{tag}"), **more})) == wanted
    no_os_type = vm_inputs(disk, nic, f"v{tag}")
    del no_os_type["storageProfile"]["osDisk"]["osType"]
    assert code(lambda: azure.create("compute:VirtualMachine", **no_os_type)) == "InvalidParameter"
    missing = vm_inputs(dataclasses.replace(disk, id=f"{disk.id}x"), nic, f"v{tag}")
    assert code(lambda: azure.create("compute:VirtualMachine", **missing)) == "InvalidResourceReference"


def test_status_and_down_name_what_is_left(azure: Driver, account: Made) -> None:
    parts = {part.name: part.state for part in services.status(azure.folders)}
    assert parts == {"azurite": "running", "retention": "stopped", "serve": "stopped"}
    said: list[str] = []
    services.down(azure.folders, said.append, stop_machines=False)
    assert "storage stopped" in said
    assert {part.state for part in services.status(azure.folders)} == {"stopped"}
    assert Azurite(azure.folders).start()


def test_nothing_is_readable_by_others(azure: Driver, account: Made) -> None:
    for path in (azure.folders.accounts, *azure.folders.key_store.iterdir(), *azure.folders.resources.glob("*.json")):
        assert path.stat().st_mode & 0o077 == 0, path
    assert azure.folders.azurite.stat().st_mode & 0o077 == 0
    assert Path(azure.folders.machines).stat().st_mode & 0o077 == 0
