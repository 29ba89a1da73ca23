"""Who may do what in the vault, asked of a real Azurite with the very signatures that the site, the operator and
retention are given: a hostile process server cannot take history away."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobBlock, BlobClient, BlobLeaseClient, ContainerClient

from dr.certificates.sealed import seal
from dr.compile import names
from dr.errors import Conflict, PrerequisiteMissing, Refused, Unreachable
from dr.target import access
from dr.target.access import grant_retention, grant_site, retention_login, revoke_site, site_login
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders
from dr.target.stores import local_url, open_as_retention, open_as_site, open_store
from dr.vault.azure import AzureBlobStore, PerContainer
from dr.vault.digests import CHUNK_BYTES
from dr.vault.manifest import Manifest
from dr.vault.points import list_points
from dr.vault.replica import DiskSpec, ReplicaSet, Write
from dr.vault.store import BlobStore
from dr.vault.verify import verify_point
from tests.vault.azurite import Azurite, running_azurite

pytestmark = pytest.mark.real

PASSPHRASE = "a horse, a kingdom"
SERVER = "shop1"
VHD = names.replica_blob(SERVER, "os")
MANIFEST = names.manifest_blob(SERVER, 1, 1)


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with running_azurite(tmp_path_factory.mktemp("azurite")) as running:
        yield running


@pytest.fixture
def folders(azurite: Azurite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", PASSPHRASE)
    folders = Folders(tmp_path / "local")
    folders.key_store.mkdir(parents=True)
    (folders.key_store / f"storage-{azurite.account}.sealed").write_bytes(seal(azurite.key.encode(), PASSPHRASE))
    endpoint = f"http://127.0.0.1:{azurite.port}"
    folders.accounts.write_text(json.dumps({"endpoint": endpoint, "accounts": [azurite.account]}))
    return folders


@pytest.fixture
def granted(azurite: Azurite, folders: Folders, monkeypatch: pytest.MonkeyPatch) -> Folders:
    """The site and retention have their logins; the break-glass secret is away again."""
    grant_site(azurite.account, azurite.url, folders, datetime.now(UTC))
    grant_retention(azurite.account, folders, datetime.now(UTC))
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE")
    return folders


@dataclass(frozen=True)
class History:
    point: Manifest
    manifest: bytes


def cut(store: BlobStore, number: int, *, process_server: str = "ps1") -> Manifest:
    replica = ReplicaSet.open(
        store,
        SERVER,
        site="lab",
        protection_epoch=1,
        process_server=process_server,
        disks=[DiskSpec("os", 8 << 20)],
        facts={"firmware": "bios"},
        clock=lambda: datetime.now(UTC),
    )
    content = os.urandom(CHUNK_BYTES)
    replica.apply([Write("os", number * CHUNK_BYTES, content, CHUNK_BYTES)], replica.sequence + 1)
    info = {"number": number, "kind": "crash-consistent", "cut_time": datetime.now(UTC).isoformat()}
    point = replica.cut(info, replica.sequence + 1)
    replica.close()
    return point


@pytest.fixture
def history(azurite: Azurite, granted: Folders) -> Iterator[History]:
    """One point that the site made with its own login."""
    with closing(open_as_site(LOCAL_SUBSCRIPTION, azurite.account, granted)) as store:
        point = cut(store, 1)
        yield History(point, store.get(names.MANIFESTS, point.blob)[0])
    with closing(azurite.open()) as store:
        for container in names.CONTAINERS:
            for name in list(store.list(container)):
                if container == names.REPLICAS and not name.endswith(".json"):
                    store.break_lease(container, name)
                store.delete(container, name)


def blob(folders: Folders, azurite: Azurite, container: str, name: str, **more: Any) -> BlobClient:
    signature = site_login(azurite.account, folders).containers[container]
    return BlobClient(local_url(folders, azurite.account), container, name, credential=signature, retry_total=0, **more)


def container(folders: Folders, azurite: Azurite, name: str) -> ContainerClient:
    signature = site_login(azurite.account, folders).containers[name]
    return ContainerClient(local_url(folders, azurite.account), name, credential=signature, retry_total=0)


def refused(call: Callable[[], object]) -> None:
    with pytest.raises(HttpResponseError) as error:
        call()
    assert error.value.status_code == 403, error.value


def assert_history_stands(azurite: Azurite, folders: Folders, history: History) -> None:
    with closing(azurite.open()) as store:
        assert store.get(names.MANIFESTS, history.point.blob)[0] == history.manifest
        assert history.point in list_points(store, SERVER)
        assert verify_point(store, history.point) == []


def test_the_site_does_its_work_without_the_accounts_key(azurite: Azurite, granted: Folders, history: History) -> None:
    with closing(open_as_site(LOCAL_SUBSCRIPTION, azurite.account, granted)) as store:
        second = cut(store, 2, process_server="ps2")
        assert [point.id for point in list_points(store, SERVER)] == [second.id, history.point.id]
    path = granted.site / access.SITE_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert azurite.key not in path.read_text()
    assert_history_stands(azurite, granted, history)


def test_a_hostile_process_server_cannot_change_or_remove_a_manifest(
    azurite: Azurite, granted: Folders, history: History
) -> None:
    there = blob(granted, azurite, names.MANIFESTS, MANIFEST)
    evil = blob(granted, azurite, names.MANIFESTS, f"{SERVER}/evil.json")
    evil.upload_blob(b"{}", overwrite=False)
    etag = there.get_blob_properties().etag

    def by_blocks() -> None:
        there.stage_block("AAAA", b"{}")
        there.commit_block_list([BlobBlock("AAAA")])

    for call in (
        lambda: there.upload_blob(b"{}", overwrite=True),
        lambda: there.upload_blob(b"{}", overwrite=True, etag=etag, match_condition=MatchConditions.IfNotModified),
        by_blocks,
        lambda: there.start_copy_from_url(evil.url),
        lambda: there.start_copy_from_url(evil.url, requires_sync=True),
        lambda: there.create_page_blob(512),
        there.create_append_blob,
        lambda: there.set_blob_metadata({"x": "y"}),
        there.set_http_headers,
        lambda: there.set_standard_blob_tier("Archive"),
        lambda: there.set_blob_tags({"x": "y"}),
        there.delete_blob,
        lambda: there.delete_blob(delete_snapshots="include"),
        lambda: BlobLeaseClient(there).acquire(-1),
        lambda: BlobLeaseClient(there).break_lease(0),
        container(granted, azurite, names.MANIFESTS).delete_container,
        lambda: container(granted, azurite, names.MANIFESTS).set_container_access_policy({}),
    ):
        refused(call)
    assert_broken_but_standing(azurite, history)


def assert_broken_but_standing(azurite: Azurite, history: History) -> None:
    """A bogus manifest is named; it takes nothing away."""
    with closing(azurite.open()) as store:
        assert store.get(names.MANIFESTS, history.point.blob)[0] == history.manifest
        assert verify_point(store, history.point) == []


def test_a_hostile_process_server_cannot_remove_a_replica_or_its_snapshots(
    azurite: Azurite, granted: Folders, history: History
) -> None:
    for name in (VHD, names.digests_blob(SERVER, "os"), names.writer_blob(SERVER)):
        there = blob(granted, azurite, names.REPLICAS, name)
        for how in ("include", "only", None):
            refused(lambda there=there, how=how: there.delete_blob(delete_snapshots=how))  # type: ignore[misc]
    (disk,) = history.point.disks
    refused(blob(granted, azurite, names.REPLICAS, VHD, snapshot=disk.snapshot).delete_blob)
    refused(container(granted, azurite, names.REPLICAS).delete_container)
    assert_history_stands(azurite, granted, history)


def test_what_a_hostile_process_server_does_to_the_live_replica_leaves_the_points(
    azurite: Azurite, granted: Folders, history: History
) -> None:
    """It can write: that is its work. It overwrites pages, shrinks the blob, puts another one in its place."""
    live = blob(granted, azurite, names.REPLICAS, VHD)
    BlobLeaseClient(live).break_lease(0)
    live.upload_page(b"ruin" * 128, 0, 512)
    live.set_blob_metadata({"sequence": "999999"})
    assert_history_stands(azurite, granted, history)
    live.resize_blob(512)
    assert_history_stands(azurite, granted, history)
    for evil in (lambda: live.upload_blob(b"gone", overwrite=True), lambda: live.create_page_blob(512)):
        evil()
        assert_history_stands(azurite, granted, history)
    copied = blob(granted, azurite, names.REPLICAS, names.writer_blob(SERVER))
    live.start_copy_from_url(copied.url)
    assert_history_stands(azurite, granted, history)


def test_the_site_has_no_way_into_the_other_containers(azurite: Azurite, granted: Folders, history: History) -> None:
    signatures = site_login(azurite.account, granted).containers
    assert set(signatures) == {names.REPLICAS, names.MANIFESTS, names.RETENTION, names.REGISTER}
    url = local_url(granted, azurite.account)
    for signature in signatures.values():
        for closed in (names.RUNS, names.STATE, names.OBSERVED):
            client = BlobClient(url, closed, "x", credential=signature, retry_total=0)
            refused(lambda client=client: client.upload_blob(b"x"))  # type: ignore[misc]
            refused(client.get_blob_properties)
    refused(lambda: blob(granted, azurite, names.RETENTION, "site.json").upload_blob(b"x"))
    with closing(open_as_site(LOCAL_SUBSCRIPTION, azurite.account, granted)) as store, pytest.raises(Refused):
        store.put(names.RUNS, "x", b"")


def test_create_only_means_exists_also_to_a_login_that_may_not_overwrite(
    azurite: Azurite, granted: Folders, history: History
) -> None:
    with closing(open_as_site(LOCAL_SUBSCRIPTION, azurite.account, granted)) as store:
        with pytest.raises(Conflict) as conflict:
            store.put(names.MANIFESTS, MANIFEST, b"{}", if_absent=True)
        assert conflict.value.code == "exists"
        with pytest.raises(Refused):
            store.put(names.MANIFESTS, MANIFEST, b"{}")


def test_retention_deletes_and_writes_only_its_own_record(azurite: Azurite, granted: Folders, history: History) -> None:
    with closing(open_as_retention(LOCAL_SUBSCRIPTION, azurite.account, granted)) as store:
        for call in (
            lambda: store.write_pages(names.REPLICAS, VHD, 0, bytes(512)),
            lambda: store.put(names.REPLICAS, f"{SERVER}/new", b"x"),
            lambda: store.snapshot(names.REPLICAS, VHD),
            lambda: store.set_metadata(names.REPLICAS, VHD, {}),
            lambda: store.put(names.MANIFESTS, f"{SERVER}/new.json", b"x", if_absent=True),
            lambda: store.put(names.RUNS, "p/r/x", b"x"),
            lambda: store.delete(names.RUNS, "p/r/x"),
            lambda: store.put(names.RETENTION, "site.json", b"x"),
        ):
            with pytest.raises(Refused) as refusal:
                call()
            assert refusal.value.code == "login-refused"
        assert abs(store.time(names.MANIFESTS) - datetime.now(UTC)) < timedelta(minutes=1)
        etag = store.put(names.OBSERVED, "x.json", b"{}", if_absent=True)
        store.put(names.OBSERVED, "x.json", b"[]", if_match=etag)
        store.delete(names.OBSERVED, "x.json")
        (disk,) = history.point.disks
        store.delete(names.MANIFESTS, history.point.blob)
        store.delete_snapshot(names.REPLICAS, disk.blob, disk.snapshot)
        assert disk.snapshot not in {entry.snapshot for entry in store.inventory(names.REPLICAS, disk.blob)}
        store.break_lease(names.REPLICAS, disk.blob)
        store.delete(names.REPLICAS, disk.blob)
    assert stat.S_IMODE((granted.cloud / access.RETENTION_FILE).stat().st_mode) == 0o600
    assert retention_login(granted).account == azurite.account


def test_an_operators_command_reads_and_copies_and_cannot_touch_history(
    azurite: Azurite, folders: Folders, granted: Folders, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PrerequisiteMissing):
        open_store(LOCAL_SUBSCRIPTION, azurite.account, folders)
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", PASSPHRASE)
    with closing(open_store(LOCAL_SUBSCRIPTION, azurite.account, folders)) as store:
        (disk,) = history.point.disks
        assert verify_point(store, history.point) == []
        store.copy_snapshot(names.REPLICAS, disk.blob, disk.snapshot, names.RUNS, "p/r/os.vhd")
        store.delete(names.RUNS, "p/r/os.vhd")
        for call in (
            lambda: store.delete(names.MANIFESTS, MANIFEST),
            lambda: store.put(names.MANIFESTS, MANIFEST, b"{}"),
            lambda: store.delete(names.REPLICAS, VHD),
            lambda: store.delete_snapshot(names.REPLICAS, VHD, disk.snapshot),
            lambda: store.write_pages(names.REPLICAS, VHD, 0, bytes(512)),
            lambda: store.put(names.OBSERVED, f"{SERVER}.json", b"{}"),
            lambda: store.delete(names.OBSERVED, f"{SERVER}.json"),
        ):
            with pytest.raises(Refused):
                call()
    assert_history_stands(azurite, granted, history)


def test_the_sites_login_is_prolonged_in_place_made_anew_and_revoked(
    azurite: Azurite, granted: Folders, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", PASSPHRASE)
    now = datetime.now(UTC)
    first = site_login(azurite.account, granted)
    later = grant_site(azurite.account, azurite.url, granted, now + timedelta(days=31))
    assert later.containers == first.containers
    assert later.until - first.until > timedelta(days=30)
    old = AzureBlobStore(azurite.url, first.login)
    assert old.get(names.MANIFESTS, MANIFEST)[0] == history.manifest

    (granted.site / access.SITE_FILE).write_text("lost")
    anew = grant_site(azurite.account, azurite.url, granted, now)
    with pytest.raises(Refused) as refusal:
        old.get(names.MANIFESTS, MANIFEST)
    assert refusal.value.code == "login-refused"
    with closing(AzureBlobStore(azurite.url, anew.login)) as store:
        assert store.get(names.MANIFESTS, MANIFEST)[0] == history.manifest
        revoke_site(azurite.account, azurite.url, granted)
        with pytest.raises(Refused):
            store.get(names.MANIFESTS, MANIFEST)
    with pytest.raises(PrerequisiteMissing) as missing:
        open_as_site(LOCAL_SUBSCRIPTION, azurite.account, granted)
    assert missing.value.code == "vault-access-missing"
    grant_site(azurite.account, azurite.url, granted, now - timedelta(days=access.SITE_DAYS, seconds=1))
    with closing(open_as_site(LOCAL_SUBSCRIPTION, azurite.account, granted)) as store, pytest.raises(Refused):
        store.get(names.MANIFESTS, MANIFEST)  # its time is over
    old.close()


def test_a_signature_is_in_no_error(azurite: Azurite, granted: Folders) -> None:
    login = site_login(azurite.account, granted).login
    secret = login.signatures[names.REPLICAS].rpartition("sig=")[2]
    away = AzureBlobStore(f"http://127.0.0.1:{azurite.unused_port}/{azurite.account}", login)
    with closing(away), pytest.raises(Unreachable) as unreachable:
        away.put(names.REPLICAS, "x", b"")
    assert "sig=hidden" in unreachable.value.message or "sig=" not in unreachable.value.message
    assert secret not in unreachable.value.message
    wrong = PerContainer({names.REPLICAS: login.signatures[names.REPLICAS].replace(secret, "AAAA")})
    with closing(AzureBlobStore(azurite.url, wrong)) as store, pytest.raises(Refused) as refusal:
        store.get(names.REPLICAS, "x")
    assert "AAAA" not in refusal.value.message


def test_azurite_takes_no_containers_signature_for_a_snapshot(azurite: Azurite, granted: Folders) -> None:
    """If this begins to work, the account-wide signatures of `dr.target.access` can become containers' ones."""
    with closing(azurite.open()) as store:
        store.create_pages(names.REPLICAS, "sign/os.vhd", 512, {})
        snapshot = store.snapshot(names.REPLICAS, "sign/os.vhd")
    client = blob(granted, azurite, names.REPLICAS, "sign/os.vhd", snapshot=snapshot)
    refused(client.get_blob_properties)
