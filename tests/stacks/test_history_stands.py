"""Promise 9 by the real Pulumi CLI and a real Azurite: what careless and hostile hands do to the vault, and that
history stands; then the two explicit words that end it, and what they refuse.

The tests follow each other on one estate, in the order of this file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobClient
from jsonschema import Draft202012Validator

from dr.compile import names
from dr.errors import Refused
from dr.failover.engine import Engine
from dr.retention import ending
from dr.target.access import site_login
from dr.target.folders import LOCAL_SUBSCRIPTION
from dr.target.stores import local_url, open_as_site, open_store
from dr.vault import declared
from dr.vault.azure import AzureBlobStore
from dr.vault.digests import CHUNK_BYTES
from dr.vault.manifest import Manifest
from dr.vault.points import list_points
from dr.vault.replica import DiskSpec, ReplicaSet, Write
from dr.vault.verify import verify_point
from tests.stacks.projects import Estate, local_estate

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

CHECKOUT = Path(__file__).parents[2]
ACCOUNT = names.storage_account("harbour", LOCAL_SUBSCRIPTION)
VAULT = names.recovery_vault("harbour")
SERVER = "shop1"


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """Vault and site are up; the declaration names no server, for its protection would need a machine."""
    with local_estate(tmp_path_factory.mktemp("history")) as made:
        made.run("vault-local", "up")
        for name in ("servers.yaml", "plans.yaml"):
            (made.plans / name).unlink()
        made.run("site-local", "up")
        yield made


@pytest.fixture(scope="module")
def points(estate: Estate) -> list[Manifest]:
    """Two points that the site's own login made."""
    with closing(open_store(LOCAL_SUBSCRIPTION, ACCOUNT, estate.folders)) as store:
        declared.tell(store, "harbour", {SERVER: 86400})
    with closing(open_as_site(LOCAL_SUBSCRIPTION, ACCOUNT, estate.folders)) as store:
        replica = ReplicaSet.open(
            store,
            SERVER,
            site="harbour",
            protection_epoch=1,
            process_server="ps1",
            disks=[DiskSpec("os", 8 << 20)],
            facts={},
            clock=lambda: datetime.now(UTC),
        )
        made = []
        for number in (1, 2):
            replica.apply([Write("os", 0, os.urandom(CHUNK_BYTES), CHUNK_BYTES)], replica.sequence + 1)
            cut = {"number": number, "kind": "crash-consistent", "cut_time": datetime.now(UTC).isoformat()}
            made.append(replica.cut(cut, replica.sequence + 1))
        replica.close()
    return made


def assert_history_stands(estate: Estate, points: list[Manifest]) -> None:
    with closing(open_store(LOCAL_SUBSCRIPTION, ACCOUNT, estate.folders)) as store:
        assert list_points(store, SERVER) == points[::-1]
        for point in points:
            assert verify_point(store, point) == []


def dr(estate: Estate, *arguments: str, secret: bool = True) -> tuple[int, dict[str, Any]]:
    """Run a command with --json; return its exit code and what it printed."""
    variables = {name: value for name, value in estate.variables.items() if secret or not name.startswith("PULUMI_")}
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PULUMI", "LIFEBOAT"))}
    if not secret:
        variables["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(estate.folders.root / "burnt")
    done = subprocess.run(
        [sys.executable, "-m", "dr", *arguments, "--json"],
        cwd=CHECKOUT,
        env={**inherited, **variables},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.stdout, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, document


def valid(document: dict[str, Any], schema: str) -> dict[str, Any]:
    Draft202012Validator(json.loads((CHECKOUT / f"docs/formats/{schema}.schema.json").read_text())).validate(document)
    return document


def test_a_hostile_process_server_with_the_sites_login(estate: Estate, points: list[Manifest]) -> None:
    signatures = site_login(ACCOUNT, estate.folders).containers
    url = local_url(estate.folders, ACCOUNT)

    def blob(container: str, name: str) -> BlobClient:
        return BlobClient(url, container, name, credential=signatures[container], retry_total=0)

    manifest, replica = blob(names.MANIFESTS, points[0].blob), blob(names.REPLICAS, points[0].disks[0].blob)
    for call in (
        manifest.delete_blob,
        lambda: manifest.upload_blob(b"{}", overwrite=True),
        lambda: manifest.set_blob_metadata({"a": "b"}),
        lambda: replica.delete_blob(delete_snapshots="include"),
        lambda: replica.delete_blob(delete_snapshots="only"),
        lambda: blob(names.RETENTION, declared.BLOB).upload_blob(b"{}", overwrite=True),
        lambda: blob(names.RETENTION, declared.BLOB).delete_blob(),
    ):
        with pytest.raises(HttpResponseError) as refused:
            call()
        assert refused.value.status_code == 403
    assert_history_stands(estate, points)


def test_no_login_is_in_state_or_history(estate: Estate, points: list[Manifest]) -> None:
    secrets = [s.rpartition("sig=")[2] for s in site_login(ACCOUNT, estate.folders).containers.values()]
    retention = json.loads((estate.folders.cloud / "retention.json").read_text())["containers"]
    secrets += [signature.rpartition("sig=")[2] for signature in retention.values()]
    searched = 0
    for folder in (estate.folders.state, estate.folders.resources, estate.project):
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                searched += 1
                text = path.read_text(errors="replace")
                assert not [secret for secret in secrets if secret in text], path
    assert searched > 20


def test_refresh_finds_it_as_it_is(estate: Estate, points: list[Manifest]) -> None:
    assert all(step.startswith("refresh ") for step in estate.run("vault-local", "refresh"))
    assert estate.run("vault-local", "preview") == []
    assert_history_stands(estate, points)


def test_destroy_is_refused_and_leaves_everything(estate: Estate, points: list[Manifest]) -> None:
    refused = estate.pulumi("vault-local", "destroy", "--yes", "--skip-preview")
    assert refused.returncode != 0
    assert "protect" in refused.stdout + refused.stderr
    assert estate.run("vault-local", "preview") == []
    assert_history_stands(estate, points)


def test_up_puts_back_a_protection_that_was_taken_away(estate: Estate, points: list[Manifest]) -> None:
    assert estate.pulumi("vault-local", "state", "unprotect", "--all", "--yes").returncode == 0
    assert not any(protected(estate))
    assert estate.run("vault-local", "up") == []
    assert all(protected(estate))
    assert_history_stands(estate, points)


def protected(estate: Estate) -> list[bool]:
    """Tell of every resource of the vault's stack whether its state protects and retains it."""
    state = json.loads(estate.pulumi("vault-local", "stack", "export").stdout)["deployment"]
    return [bool(each.get("protect")) and bool(each.get("retainOnDelete")) for each in ending.resources(state)]


def test_a_site_is_not_renamed_and_not_removed(estate: Estate, points: list[Manifest]) -> None:
    text = (estate.plans / "site.yaml").read_text()
    (estate.plans / "site.yaml").write_text(text.replace("name: harbour", "name: seaport"))
    renamed = estate.pulumi("vault-local", "preview")
    (estate.plans / "site.yaml").unlink()
    removed = estate.pulumi("vault-local", "preview")
    (estate.plans / "site.yaml").write_text(text)
    assert renamed.returncode != 0
    assert "a site cannot be renamed" in renamed.stdout
    assert removed.returncode != 0
    assert "a site is not removed by leaving it out" in removed.stdout
    assert estate.run("vault-local", "preview") == []
    assert_history_stands(estate, points)


def test_retention_needs_no_secret_and_keeps_what_is_new(estate: Estate, points: list[Manifest]) -> None:
    code, document = dr(estate, "retention", secret=False)
    (shop,) = valid(document, "retention")["servers"]
    assert (code, shop["server"], shop["kept"], shop["removed"]) == (0, SERVER, 2, [])
    assert_history_stands(estate, points)


def test_a_protected_server_is_not_purged(estate: Estate, points: list[Manifest]) -> None:
    code, document = dr(estate, "purge", SERVER, "--yes", SERVER)
    assert (code, valid(document, "purge")["error"]["code"]) == (6, "still-protected")
    assert_history_stands(estate, points)


def test_a_server_that_left_is_named_with_until_when(estate: Estate, points: list[Manifest]) -> None:
    """The declaration names no server: a refresh finds that the vault still does, and `up` lets it leave."""
    estate.run("site-local", "refresh")
    assert "update Retention" in estate.run("site-local", "up")
    code, document = dr(estate, "points", SERVER)
    assert code == 0
    kept = valid(document, "points")["retention"]
    left, until = datetime.fromisoformat(kept["left"]), datetime.fromisoformat(kept["until"])
    assert until - left == timedelta(days=1) + declared.GRACE
    assert [point["id"] for point in document["points"]] == [point.id for point in points[::-1]]
    assert estate.run("site-local", "up") == []
    assert_history_stands(estate, points)


def test_destroying_the_site_revokes_its_login_and_leaves_the_vault(estate: Estate, points: list[Manifest]) -> None:
    login = site_login(ACCOUNT, estate.folders).login
    with closing(AzureBlobStore(local_url(estate.folders, ACCOUNT), login)) as stolen:
        assert stolen.get(names.MANIFESTS, points[0].blob)
        estate.run("site-local", "destroy")
        with pytest.raises(Refused) as refused:
            stolen.get(names.MANIFESTS, points[0].blob)
    assert refused.value.code == "login-refused"
    assert estate.run("vault-local", "preview") == []
    assert_history_stands(estate, points)


def test_the_explicit_words_want_the_secret_and_the_name(estate: Estate, points: list[Manifest]) -> None:
    for command, name in (("purge", SERVER), ("vault", VAULT)):
        words = ["purge", name] if command == "purge" else ["vault", "destroy", "--name", name]
        assert dr(estate, *words, "--yes", name, secret=False)[0] == 4
        code, document = dr(estate, *words)
        assert (code, document["error"]["code"]) == (6, "not-confirmed")
        code, document = dr(estate, *words, "--yes", "another")
        assert (code, document["error"]["code"]) == (6, "not-confirmed")
    code, document = dr(estate, "vault", "destroy", "--name", "another", "--yes", "another")
    assert (code, document["error"]["code"]) == (6, "other-vault")
    assert_history_stands(estate, points)


def test_a_run_of_a_plan_that_left_the_declaration_stands_in_the_way(estate: Estate, points: list[Manifest]) -> None:
    """`plans.yaml` is gone; the backend still knows the stack, and the vault the point that the run chose."""
    gone = "failover-gone-local"
    assert estate.pulumi(gone, "stack", "init").returncode == 0
    state = json.loads(estate.pulumi(gone, "stack", "export").stdout)
    urn = f"urn:pulumi:{gone}::lifeboat::pulumi:pulumi:Stack::lifeboat-{gone}"
    inner = {"urn": urn.replace("pulumi:pulumi:Stack::lifeboat-failover-gone-local", "a:b:C::c"), "type": "a:b:C"}
    resources = [{"urn": urn, "custom": False, "type": "pulumi:pulumi:Stack"}, {**inner, "custom": False}]
    (estate.project / "gone.json").write_text(json.dumps({**state, "deployment": {"resources": resources}}))
    assert estate.pulumi(gone, "stack", "import", "--file", "gone.json").returncode == 0
    code, document = dr(estate, "vault", "destroy", "--name", VAULT, "--yes", VAULT)
    assert (code, document["error"]["code"]) == (6, "stacks-standing")
    assert gone in document["error"]["message"]

    assert estate.pulumi(gone, "stack", "rm", "--yes", "--force").returncode == 0
    selection = json.dumps({"point": {"id": points[0].id, "disks": []}}).encode()
    with closing(open_store(LOCAL_SUBSCRIPTION, ACCOUNT, estate.folders)) as store:
        store.put(names.RUNS, f"gone/r1/point-{SERVER}.json", selection)
        code, document = dr(estate, "vault", "destroy", "--name", VAULT, "--yes", VAULT)
        store.delete(names.RUNS, f"gone/r1/point-{SERVER}.json")
    assert (code, document["error"]["code"]) == (6, "stacks-standing")
    assert "gone/r1" in document["error"]["message"]
    assert_history_stands(estate, points)


def test_purge_removes_one_server(estate: Estate, points: list[Manifest]) -> None:
    code, document = dr(estate, "purge", SERVER, "--yes", SERVER)
    assert code == 0, document
    removed = valid(document, "purge")["removed"]
    assert (removed["points"], removed["replicas"]) == (2, [points[0].disks[0].blob])
    with closing(open_store(LOCAL_SUBSCRIPTION, ACCOUNT, estate.folders)) as store:
        assert list(store.list(names.MANIFESTS)) == list(store.list(names.REPLICAS)) == []
        assert declared.read(store) == {}
    code, document = dr(estate, "purge", SERVER, "--yes", SERVER)
    assert (code, document["error"]["code"]) == (8, "not-found")
    assert estate.run("vault-local", "preview") == []


def test_a_plain_destroy_of_an_unprotected_vault_deletes_nothing(estate: Estate, points: list[Manifest]) -> None:
    """What is retained is forgotten by the state, and stays."""
    before = sorted(path.name for path in estate.folders.resources.glob("*.json"))
    kept = estate.pulumi("vault-local", "stack", "export").stdout
    assert estate.pulumi("vault-local", "state", "unprotect", "--all", "--yes").returncode == 0
    estate.run("vault-local", "destroy")
    assert sorted(path.name for path in estate.folders.resources.glob("*.json")) == before
    with closing(open_store(LOCAL_SUBSCRIPTION, ACCOUNT, estate.folders)) as store:
        assert list(store.list(names.RETENTION)) == [declared.BLOB]
    code, document = dr(estate, "vault", "destroy", "--name", VAULT, "--yes", VAULT)
    assert (code, document["error"]["code"]) == (6, "state-forgot"), "it is not said to be destroyed"
    (estate.project / "kept.json").write_text(kept)
    assert estate.pulumi("vault-local", "stack", "import", "--file", "kept.json").returncode == 0
    assert estate.run("vault-local", "preview") == []


def test_the_end_of_the_vault_is_complete(estate: Estate, points: list[Manifest]) -> None:
    variables = {**os.environ, **estate.variables}
    stack = Engine(estate.project, "vault-local", {**variables, ending.ENDING: VAULT})
    ending.refuse_standing({"site-local": Engine(estate.project, "site-local", variables).state()})
    with pytest.raises(Refused) as refused:
        ending.refuse_standing({"vault-local": stack.state()})
    assert refused.value.code == "stacks-standing"
    ending.end_vault(stack, lambda event: None)
    assert list(ending.resources(stack.state())) == []
    assert [path for path in estate.folders.resources.glob("*.json") if "harbour-vault" in path.read_text()] == []
    assert ACCOUNT not in json.loads(estate.folders.accounts.read_text())["accounts"]
    assert not (estate.folders.cloud / "retention.json").exists()
    ending.end_vault(stack, lambda event: None)  # a second call has nothing to do
    code, document = dr(estate, "vault", "destroy", "--name", VAULT, "--yes", VAULT)
    assert (code, valid(document, "vault-destroy")["destroyed"]["resources"]) == (0, 0)
