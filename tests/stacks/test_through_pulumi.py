"""The three stacks by the real Pulumi CLI on target local: promise 6, and what destroy may and may not do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from dr.compile import names
from dr.local.tools import checkout
from dr.target.folders import LOCAL_SUBSCRIPTION
from dr.target.stores import open_as_site, open_store
from dr.vault import manifest as manifests
from dr.vault import vhd
from dr.vault.manifest import DiskPoint, Manifest
from dr.vault.store import BlobStore
from tests.stacks.projects import Estate, local_estate

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

DISK_BYTES = 8 << 20
PLAN = "kind: RecoveryPlan\nname: shop\ngroups:\n  - servers: [shop1]\n"


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    root = tmp_path_factory.mktemp("estate")
    (root / "declared").mkdir()
    for file in (checkout() / "plans").glob("*.yaml"):
        shutil.copy(file, root / "declared")
    (root / "declared" / "plans.yaml").write_text(PLAN)
    with local_estate(root, root / "declared") as estate:
        yield estate


@pytest.fixture(scope="module")
def vault(estate: Estate) -> Estate:
    estate.run("vault-local", "up")
    return estate


@pytest.fixture(scope="module")
def landed(vault: Estate) -> Estate:
    """The landing zone, without the server: its protection needs a machine."""
    away = {name: (vault.plans / name).read_text() for name in ("servers.yaml", "plans.yaml")}
    for name in away:
        (vault.plans / name).unlink()
    vault.run("site-local", "up")
    for file, text in away.items():
        (vault.plans / file).write_text(text)
    return vault


def test_the_vault_is_stable_keeps_no_key_and_refuses_to_be_destroyed(vault: Estate) -> None:
    assert vault.run("vault-local", "preview") == []
    assert vault.run("vault-local", "up") == []
    assert "PRIVATE KEY" not in vault.pulumi("vault-local", "stack", "export", "--show-secrets").stdout
    refused = vault.pulumi("vault-local", "destroy", "--yes", "--skip-preview")
    assert refused.returncode != 0
    assert "protect" in refused.stdout + refused.stderr
    assert vault.run("vault-local", "preview") == []


def test_one_value_changes_one_resource(vault: Estate, landed: Estate) -> None:
    away = {name: (landed.plans / name).read_text() for name in ("servers.yaml", "plans.yaml")}
    for name in away:
        (landed.plans / name).unlink()
    assert landed.run("site-local", "preview") == []
    landed.edit("site.yaml", "[22, 8080]", "[22, 8080, 443]")
    assert landed.run("site-local", "preview") == ["update NetworkSecurityGroup"]
    landed.edit("site.yaml", "[22, 8080, 443]", "[22, 8080]")
    assert landed.run("site-local", "preview") == []
    for file, text in away.items():
        (landed.plans / file).write_text(text)


def test_a_stack_is_tied_to_its_target_and_a_declaration_error_has_no_traceback(vault: Estate) -> None:
    foreign = "00000000-0000-0000-0000-000000000001"
    refused = vault.pulumi("site-local", "preview", "--config", f"azure-native:subscriptionId={foreign}")
    assert refused.returncode != 0
    assert "belongs to target local" in refused.stdout
    vault.pulumi("site-local", "config", "set", "azure-native:subscriptionId", LOCAL_SUBSCRIPTION)
    vault.edit("servers.yaml", "policy: standard", "policy: standerd")
    broken = vault.pulumi("site-local", "preview")
    vault.edit("servers.yaml", "policy: standerd", "policy: standard")
    assert broken.returncode != 0
    assert "servers.yaml:" in broken.stdout
    assert "Traceback" not in broken.stdout + broken.stderr


def test_a_failover_is_stable_changes_its_point_in_order_and_goes_without_the_vault(landed: Estate) -> None:
    account = names.storage_account("harbour", LOCAL_SUBSCRIPTION)
    store = open_store(LOCAL_SUBSCRIPTION, account, landed.folders)
    writer = open_as_site(LOCAL_SUBSCRIPTION, account, landed.folders)
    stack = "failover-shop-local"
    add_point(writer, 1)
    landed.run(stack, "up")
    assert first_byte(landed) == 1
    add_point(writer, 2)
    assert landed.run(stack, "up") == []
    assert landed.run(stack, "preview") == []

    landed.pulumi(stack, "config", "set", "dr:point", "shop1-1-2")
    steps = landed.run(stack, "up")
    replaced = {"VirtualMachine", "Disk", "BlobCopy", "RecoveryPoint"}
    assert {step.split()[1] for step in steps} == replaced
    removed = [step.split()[1] for step in steps if step.startswith("delete")]
    made = [step.split()[1] for step in steps if step.startswith("create")]
    assert set(removed) == replaced
    assert removed.index("VirtualMachine") < removed.index("Disk")  # Azure refuses to delete an attached disk
    assert made == ["RecoveryPoint", "BlobCopy", "Disk", "VirtualMachine"]
    # The old server stands until its successor's content is there.
    assert steps.index("create-replacement BlobCopy") < steps.index("delete-replaced VirtualMachine"), steps
    assert first_byte(landed) == 2
    assert landed.run(stack, "up") == []

    landed.run(stack, "destroy")
    assert list(store.list("runs")) == []
    assert len(list(store.list("manifests"))) == 2
    assert landed.run("vault-local", "preview") == []


def first_byte(estate: Estate) -> int:
    (image,) = estate.folders.disks.glob("*/base.raw")
    with image.open("rb") as file:
        return file.read(1)[0]


def add_point(store: BlobStore, number: int) -> None:
    """Write a page that tells the point's number, snapshot the replica and store the manifest."""
    blob, digests = names.replica_blob("shop1", "os"), names.digests_blob("shop1", "os")
    now = datetime.now(UTC)
    if number == 1:
        store.create_pages("replicas", blob, vhd.blob_size(DISK_BYTES), {})
        footer = vhd.build_footer(DISK_BYTES, vhd.unique_id("shop1", "os"), now)
        store.write_pages("replicas", blob, vhd.padded_size(DISK_BYTES), footer)
        store.create_pages("replicas", digests, 512, {})
    store.write_pages("replicas", blob, 0, bytes([number]) * 512)
    snapshots = store.snapshot("replicas", blob), store.snapshot("replicas", digests)
    disk = DiskPoint("os", DISK_BYTES, blob, snapshots[0], digests, snapshots[1], "00" * 32)
    cut = now - timedelta(minutes=5 - number)
    point = Manifest(
        id=names.point_id("shop1", 1, number),
        server="shop1",
        site="harbour",
        protection_epoch=1,
        number=number,
        kind="crash-consistent",
        cut_time=cut,
        created_time=cut,
        sequence=number,
        writer_epoch=1,
        frozen=("/",),
        not_frozen=(),
        freeze_ms=1.0,
        firmware="bios",
        facts={},
        disks=(disk,),
    )
    store.put("manifests", point.blob, manifests.to_bytes(point), if_absent=True)
