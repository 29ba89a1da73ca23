"""The replica and `dr points` over a real Azurite: what the memory store can't show."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dr.certificates.sealed import seal
from dr.compile import names
from dr.errors import Conflict, Unreachable
from dr.schema import load
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders
from dr.target.stores import open_store
from dr.vault.azure import AzureBlobStore
from dr.vault.digests import CHUNK_BYTES
from dr.vault.points import resolve
from dr.vault.replica import DiskSpec, ReplicaSet, Write
from dr.vault.store import BlobStore
from dr.vault.verify import verify_point
from tests.vault.azurite import Azurite, restarted, running_azurite

CHECKOUT = Path(__file__).parents[2]
SIZE = 24 << 20
PLANS = CHECKOUT / "plans"
SITE = load(PLANS).site.name
PASSPHRASE = "horses eat little else"

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    account = names.storage_account(SITE, LOCAL_SUBSCRIPTION)
    with running_azurite(tmp_path_factory.mktemp("azurite"), account=account) as running:
        yield running


@pytest.fixture
def store(azurite: Azurite) -> Iterator[AzureBlobStore]:
    store = azurite.open()
    yield store
    store.close()


def open_replica(store: BlobStore, server: str, process_server: str = "ps1") -> ReplicaSet:
    return ReplicaSet.open(
        store,
        server,
        site=SITE,
        protection_epoch=1,
        process_server=process_server,
        disks=[DiskSpec("os", SIZE), DiskSpec("data", 3 * CHUNK_BYTES + 512)],
        facts={"firmware": "bios"},
        clock=lambda: datetime.now(UTC),
    )


def write(chunk: int, payload: bytes) -> Write:
    return Write("os", chunk * CHUNK_BYTES, payload, len(payload))


def cut_info(number: int) -> dict[str, Any]:
    moment = datetime.now(UTC) - timedelta(seconds=1)
    return {"number": number, "kind": "crash-consistent", "cut_time": moment.isoformat()}


def test_a_point_of_a_replica_that_went_on(store: AzureBlobStore) -> None:
    replica = open_replica(store, "one")
    content = os.urandom(5 << 20)
    replica.apply([write(16, content), Write("data", 3 * CHUNK_BYTES, b"e" * 512, 512)], 1)
    point = replica.cut(cut_info(1), 2)
    replica.apply([write(16, os.urandom(1 << 20))], 3)
    later = replica.cut(cut_info(2), 4)
    assert verify_point(store, point) == []
    assert verify_point(store, later) == []
    disk = point.disks[0]
    assert store.read(names.REPLICAS, disk.blob, 1 << 20, len(content), snapshot=disk.snapshot) == content
    newer = open_replica(store, "one", "ps2")
    assert (newer.writer_epoch, newer.sequence, newer.unknown_chunks) == (2, 4, 0)
    with pytest.raises(Conflict) as conflict:
        replica.apply([write(0, content)], 5)
    assert conflict.value.code == "writer-changed"
    replica.close()
    newer.close()


class FreezesAtAWrite(AzureBlobStore):
    """Stops the service's process just before the nth page write goes out."""

    freeze_at = 0
    azurite_pid = 0

    def write_pages(self, container: str, name: str, offset: int, data: bytes, *, lease: str | None = None) -> None:
        self.freeze_at -= 1
        if self.freeze_at == 0:
            os.kill(self.azurite_pid, signal.SIGSTOP)
        super().write_pages(container, name, offset, data, lease=lease)


def test_a_frozen_store_then_the_same_call_again(azurite: Azurite) -> None:
    """The write that was given up is carried out when the store wakes; what is applied after it must win."""
    store = FreezesAtAWrite(azurite.url, azurite.credential, answer_seconds=1)
    store.azurite_pid = azurite.pid
    replica = open_replica(store, "two")
    replica.apply([write(0, b"1" * CHUNK_BYTES)], 1)
    store.freeze_at = 2  # the first is the digest's
    with pytest.raises(Unreachable) as error:
        replica.apply([write(0, b"2" * CHUNK_BYTES)], 2)
    os.kill(azurite.pid, signal.SIGCONT)
    assert error.value.code == "store-unavailable"
    replica.apply([write(0, b"3" * CHUNK_BYTES)], 2)
    assert replica.sequence == 2
    assert verify_point(store, replica.cut(cut_info(1), 3)) == []
    assert store.read(names.REPLICAS, "two/os.vhd", 0, CHUNK_BYTES) == b"3" * CHUNK_BYTES
    replica.close()
    store.close()


def test_a_killed_azurite_that_forgot_is_a_named_state_and_heals(tmp_path: Path) -> None:
    """Killed with -9 it goes back to its last autosave; the writer must notice, and the next one start from there."""
    with running_azurite(tmp_path) as azurite:
        store = azurite.open(answer_seconds=5)
        replica = open_replica(store, "shop1")
        replica.apply([write(0, b"1" * CHUNK_BYTES)], 1)
        while True:
            _wait_for_autosave(tmp_path)
            begun, stored = time.monotonic(), replica.sequence
            content = bytes([stored % 256]) * CHUNK_BYTES
            replica.apply([write(0, content), write(9, content)], stored + 1)
            if time.monotonic() - begun < 3:  # else the next autosave may have come in between
                break
        os.kill(azurite.pid, signal.SIGKILL)
    with restarted(azurite, tmp_path):
        with pytest.raises(Conflict) as conflict:
            replica.apply([write(1, b"3" * CHUNK_BYTES)], stored + 2)
        assert conflict.value.code == "store-went-back"
        assert not replica.verify_position()
        healed = open_replica(store, "shop1")
        assert healed.sequence == stored
        healed.apply([write(0, content), write(9, content)], stored + 3)
        assert verify_point(store, healed.cut(cut_info(1), stored + 4)) == []
        healed.close()
        replica.close()
        store.close()


def _wait_for_autosave(folder: Path) -> None:
    database = folder / "__azurite_db_blob__.json"
    before = database.stat().st_mtime_ns if database.exists() else 0
    deadline = time.monotonic() + 40
    while not database.exists() or database.stat().st_mtime_ns == before:
        assert time.monotonic() < deadline, "Azurite never saved"
        time.sleep(0.02)
    time.sleep(0.3)  # the file appears before the whole of it is written


def test_open_store_and_dr_points(
    azurite: Azurite, store: AzureBlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", PASSPHRASE)
    folders = Folders(tmp_path / "local")
    folders.key_store.mkdir(parents=True)
    (folders.key_store / f"storage-{azurite.account}.sealed").write_bytes(seal(azurite.key.encode(), PASSPHRASE))
    endpoint = f"http://127.0.0.1:{azurite.port}"
    folders.accounts.write_text(json.dumps({"endpoint": endpoint, "accounts": [azurite.account]}))
    folders.envelope.parent.mkdir()
    folders.envelope.write_text(PASSPHRASE)
    with closing(open_store(LOCAL_SUBSCRIPTION, azurite.account, folders)) as operators:
        assert list(operators.list(names.MANIFESTS, "shop1/")) == []
    replica = open_replica(store, "shop1")
    replica.apply([write(3, os.urandom(CHUNK_BYTES))], 1)
    point = replica.cut(cut_info(1), 2)
    replica.close()
    environment = {"LIFEBOAT_LOCAL": str(folders.root), "LIFEBOAT_PLANS": str(PLANS)}
    code, report = run_points(environment, "shop1", "--verify", "latest")
    assert code == 0, report
    assert [p["id"] for p in report["points"]] == [point.id]
    assert report["verification"]["verified"]
    assert run_points(environment, "shop2")[1]["error"]["code"] == "not-found"
    store.put(names.MANIFESTS, names.manifest_blob("shop1", 1, 2), b"{}")
    code, report = run_points(environment, "shop1")
    assert (code, report["error"]["code"]) == (7, "manifest-invalid")
    assert (len(report["points"]), len(report["broken"])) == (1, 1)
    assert resolve([point], report["points"][0]["cut_time"], datetime.now(UTC)) == point


def run_points(environment: dict[str, str], *arguments: str) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "dr", "points", *arguments, "--json"]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PULUMI", "LIFEBOAT"))}
    variables = {**inherited, **environment}
    done = subprocess.run(command, check=False, cwd=CHECKOUT, env=variables, capture_output=True, text=True, timeout=60)
    assert done.stdout, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    schema = json.loads((CHECKOUT / "docs/formats/points.schema.json").read_text())
    Draft202012Validator(schema).validate(report)
    return done.returncode, report
