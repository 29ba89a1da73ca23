"""The resource types, driven directly on a world of ours."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, ClassVar

import pytest
from cryptography import x509

from dr.certificates.site import FILES, SiteCertificates
from dr.errors import Conflict, Corrupt, NotFound, Refused, Unreachable
from dr.failover.selection import selection_blob
from dr.provider.blob_copy import BlobCopy
from dr.provider.certificate_authority import CertificateAuthority, open_authority
from dr.provider.health_check import HealthCheck
from dr.provider.protection import Protection
from dr.provider.recovery_point import RecoveryPoint
from dr.provider.registry import registry
from dr.provider.resource import NotReady
from dr.provider.retention import Retention
from dr.provider.site_servers import SiteServers
from dr.provider.vault_access import VaultAccess
from dr.push.install import PartlyInstalled
from dr.vault import declared
from dr.vault.store import BlobStore
from tests.provider.worlds import NOW, SUBSCRIPTION, Surroundings, add_point, healthy

CA = {"name": "ca-harbour", "site": "harbour", "subscription": SUBSCRIPTION}
POINT = {
    "subscription": SUBSCRIPTION,
    "account": "vault",
    "server": "shop1",
    "plan": "shop",
    "run": "r1",
    "selector": "latest",
}
SERVERS = {
    "site": "harbour",
    "subscription": SUBSCRIPTION,
    "storageAccount": "vault",
    "certificateAuthority": "ca-harbour",
    "configurationServer": "10.0.2.2:8443",
    "processServers": [{"name": "ps1", "address": "10.0.2.2:9443"}],
    "servers": {"shop1": {"protection_epoch": 1, "rpo_threshold_seconds": 3600}},
}
PROTECTION = {
    "site": "harbour",
    "subscription": SUBSCRIPTION,
    "certificateAuthority": "ca-harbour",
    "server": "shop1",
    "ssh": {"address": "127.0.0.1", "port": 22, "user": "root", "hostKey": "ssh-ed25519 AAAA"},
    "disks": [{"name": "os", "device": "/dev/vda", "replica": "shop1/os.vhd", "digests": "shop1/os.digests"}],
    "processServers": ["10.0.2.2:9443"],
    "configurationServer": "10.0.2.2:8443",
    "initialPolicy": {"crashConsistentSeconds": 300, "rpoThresholdSeconds": 3600, "retentionSeconds": 86400},
}


def test_every_type_is_registered_once(around: Surroundings) -> None:
    assert set(registry(around.world)) == {
        f"dr:index:{name}"
        for name in (
            "CertificateAuthority",
            "VaultAccess",
            "Retention",
            "SiteServers",
            "Protection",
            "RecoveryPoint",
            "BlobCopy",
            "HealthCheck",
            "Action",
        )
    }


def test_check_names_what_is_missing_and_what_is_foreign(around: Surroundings) -> None:
    problems = BlobCopy(around.world).check({"subscription": "s", "colour": "red"})
    assert {problem.property for problem in problems} >= {"account", "snapshot", "colour"}


class TestCertificateAuthority:
    def test_the_key_is_in_the_key_store_and_nowhere_in_the_outputs(self, around: Surroundings) -> None:
        _, outputs = CertificateAuthority(around.world).create(CA, around.session)
        assert b"PRIVATE KEY" in around.keys.secrets["ca-harbour"]
        assert "PRIVATE" not in json.dumps(outputs)
        assert x509.load_pem_x509_certificate(outputs["certificate"].encode()).not_valid_after_utc > NOW

    def test_adopts_what_is_there(self, around: Surroundings) -> None:
        kind = CertificateAuthority(around.world)
        _, first = kind.create(CA, around.session)
        secret = around.keys.secrets["ca-harbour"]
        _, second = kind.create(CA, around.session)
        assert first == second
        assert around.keys.secrets["ca-harbour"] == secret

    def test_never_overwrites_a_secret_it_cannot_read(self, around: Surroundings) -> None:
        around.keys.put("ca-harbour", b"something else")
        with pytest.raises(Corrupt):
            CertificateAuthority(around.world).create(CA, around.session)
        assert around.keys.secrets["ca-harbour"] == b"something else"

    def test_delete_keeps_the_key_and_says_so(self, around: Surroundings) -> None:
        kind = CertificateAuthority(around.world)
        resource_id, outputs = kind.create(CA, around.session)
        kind.delete(resource_id, outputs, around.session)
        assert open_authority(around.keys, "ca-harbour").cert_pem
        assert around.warnings


class TestVaultAccess:
    INPUTS: ClassVar = {"site": "harbour", "subscription": SUBSCRIPTION, "storageAccount": "vault"}

    def test_the_login_is_a_file_of_the_site_and_not_in_the_state(self, around: Surroundings) -> None:
        kind = VaultAccess(around.world)
        resource_id, outputs = kind.create(self.INPUTS, around.session)
        assert (resource_id, outputs) == ("harbour", {**self.INPUTS, "until": (NOW + timedelta(days=90)).isoformat()})
        assert kind.due(outputs) is None
        assert kind.read(resource_id, outputs, around.session) == outputs

    def test_it_is_prolonged_after_a_month_and_made_anew_when_it_was_lost(self, around: Surroundings) -> None:
        kind = VaultAccess(around.world)
        _, outputs = kind.create(self.INPUTS, around.session)
        around.now = NOW + timedelta(days=31)
        assert kind.due(outputs) == "until"
        around.access_until = NOW + timedelta(days=121)
        assert kind.due(kind.update("harbour", outputs, self.INPUTS, around.session)) is None
        (around.world.site / "keys/vault.json").unlink()
        assert kind.due(kind.read("harbour", outputs, around.session) or {}) == "until"

    def test_on_target_azure_the_servers_have_an_identity_and_no_file(self, around: Surroundings) -> None:
        around.access_until = None
        kind, inputs = VaultAccess(around.world), {**self.INPUTS, "subscription": "another"}
        _, outputs = kind.create(inputs, around.session)
        assert kind.due(outputs) is None
        assert kind.read("harbour", outputs, around.session) == outputs

    def test_delete_revokes(self, around: Surroundings) -> None:
        kind = VaultAccess(around.world)
        resource_id, outputs = kind.create(self.INPUTS, around.session)
        kind.delete(resource_id, outputs, around.session)
        assert around.access_calls == ["give vault", "end vault"]


class TestRetention:
    INPUTS: ClassVar = {"site": "harbour", "subscription": SUBSCRIPTION, "storageAccount": "vault"}

    def test_a_server_that_leaves_is_named_with_until_when_and_comes_back(self, around: Surroundings) -> None:
        kind = Retention(around.world)
        both = {**self.INPUTS, "servers": {"shop1": 86400, "db1": 3600}}
        resource_id, outputs = kind.create(both, around.session)
        assert outputs == both
        assert around.warnings == []
        one = {**self.INPUTS, "servers": {"db1": 3600}}
        kind.update(resource_id, both, one, around.session)
        (warning,) = around.warnings
        assert "shop1 left the declaration" in warning
        assert "2026-12-08T12:00:00.000Z" in warning, "now, a day, and two weeks of grace"
        around.now = NOW + timedelta(days=2)
        kind.update(resource_id, one, one, around.session)
        assert len(around.warnings) == 1
        assert declared.read(around.store)["shop1"].left == NOW, "a second `up` does not prolong it"
        assert kind.read(resource_id, one, around.session) == one
        kind.update(resource_id, one, both, around.session)
        assert declared.read(around.store)["shop1"].left is None

    def test_a_shorter_retention_is_said_to_wait(self, around: Surroundings) -> None:
        kind = Retention(around.world)
        for seconds in (3600, 7200, 7200, 60):
            kind.create({**self.INPUTS, "servers": {"shop1": seconds}}, around.session)
        (warning,) = around.warnings
        assert "shop1: a shorter retention holds after" in warning

    def test_read_finds_a_list_that_was_changed_or_lost(self, around: Surroundings) -> None:
        kind = Retention(around.world)
        inputs = {**self.INPUTS, "servers": {"shop1": 86400}}
        resource_id, outputs = kind.create(inputs, around.session)
        around.store.delete("retention", declared.BLOB)
        assert kind.read(resource_id, outputs, around.session) == {**inputs, "servers": {}}

    def test_delete_leaves_the_vault_untouched(self, around: Surroundings) -> None:
        kind = Retention(around.world)
        resource_id, outputs = kind.create({**self.INPUTS, "servers": {"shop1": 86400}}, around.session)
        kind.delete(resource_id, outputs, around.session)
        assert declared.read(around.store)["shop1"].left is None


class TestSiteServers:
    @pytest.fixture
    def kind(self, around: Surroundings) -> SiteServers:
        CertificateAuthority(around.world).create(CA, around.session)
        return SiteServers(around.world, wait_seconds=0)

    def test_writes_what_dr_serve_reads(self, around: Surroundings, kind: SiteServers) -> None:
        kind.create(SERVERS, around.session)
        config = json.loads((around.folder / "site/config.json").read_bytes())
        assert config == {
            "site": "harbour",
            "subscription": SUBSCRIPTION,
            "storage_account": "vault",
            "configuration_server": {"listen": "127.0.0.1", "port": 8443, "host": "10.0.2.2"},
            "process_server": {"name": "ps1", "listen": "127.0.0.1", "port": 9443},
            "process_servers": ["ps1"],
            "servers": SERVERS["servers"],
        }
        certificate = x509.load_pem_x509_certificate((around.folder / "site/tls/server.crt").read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["lifeboat://harbour/server/ps1"]
        assert {str(a) for a in names.get_values_for_type(x509.IPAddress)} == {"10.0.2.2", "127.0.0.1"}
        for key in ("tls/server.key", "operator/operator.key"):
            assert (around.folder / "site" / key).stat().st_mode & 0o777 == 0o600

    def test_a_site_without_servers_running_is_a_named_warning(self, around: Surroundings, kind: SiteServers) -> None:
        kind.create(SERVERS, around.session)
        assert "nothing is replicated" in around.warnings[-1]
        assert "dr serve" in around.warnings[-1]

    def test_another_site_is_not_put_in_the_place_of_the_one_that_is_served(
        self, around: Surroundings, kind: SiteServers
    ) -> None:
        resource_id, state = kind.create(SERVERS, around.session)
        path = around.folder / "site/config.json"
        before = path.read_bytes()
        with pytest.raises(Refused, match='is of site "harbour"'):
            kind.create({**SERVERS, "site": "seaport"}, around.session)
        assert path.read_bytes() == before
        kind.delete(resource_id, state, around.session)
        kind.create({**SERVERS, "site": "seaport"}, around.session)

    def test_no_key_in_the_outputs(self, around: Surroundings, kind: SiteServers) -> None:
        _, outputs = kind.create(SERVERS, around.session)
        assert "PRIVATE" not in json.dumps(outputs)

    def test_read_finds_a_removed_configuration_a_changed_one_and_a_lost_key(
        self, around: Surroundings, kind: SiteServers
    ) -> None:
        resource_id, state = kind.create(SERVERS, around.session)
        assert kind.read(resource_id, state, around.session) == state
        assert kind.due(state) is None

        path = around.folder / "site/config.json"
        path.write_text(path.read_text().replace("3600", "60"))
        drifted = kind.read(resource_id, state, around.session)
        assert drifted is not None
        assert drifted["servers"]["shop1"]["rpo_threshold_seconds"] == 60

        kind.update(resource_id, state, SERVERS, around.session)
        (around.folder / "site/tls/server.key").unlink()
        lost = kind.read(resource_id, state, around.session)
        assert lost is not None
        assert kind.due(lost) == "issuingUntil"

        path.unlink()
        assert kind.read(resource_id, state, around.session) is None

    def test_the_issuing_authority_is_made_anew_before_it_ends_and_when_it_was_revoked(
        self, around: Surroundings, kind: SiteServers
    ) -> None:
        resource_id, state = kind.create(SERVERS, around.session)
        certificates = SiteCertificates(around.folder / "site", lambda: around.now)
        first = certificates.issuing().serial
        around.now = NOW + timedelta(days=29)
        assert kind.due(state) is None
        around.now = NOW + timedelta(days=31)
        assert kind.due(state) == "issuingUntil"
        state = kind.update(resource_id, state, SERVERS, around.session)
        second = certificates.issuing().serial
        assert first != second
        assert kind.due(state) is None
        certificates.revoke(second, "stolen")
        assert kind.due(state) == "issuingUntil"
        state = kind.update(resource_id, state, SERVERS, around.session)
        assert kind.due(state) is None
        held = certificates.held("tls/server")
        assert held is not None
        assert held.issuer == certificates.issuing().serial not in {first, second}

    def test_a_second_update_leaves_the_certificates_as_they_are(self, around: Surroundings, kind: SiteServers) -> None:
        resource_id, state = kind.create(SERVERS, around.session)
        files = [around.folder / "site" / name for name in FILES if name.startswith(("tls", "operator"))]
        before = [path.read_bytes() for path in files]
        kind.update(resource_id, state, {**SERVERS, "storageAccount": "other"}, around.session)
        assert [path.read_bytes() for path in files] == before

    def test_delete_removes_all_of_it(self, around: Surroundings, kind: SiteServers) -> None:
        resource_id, state = kind.create(SERVERS, around.session)
        kind.delete(resource_id, state, around.session)
        assert [path for path in (around.folder / "site").rglob("*") if path.is_file()] == []


class TestRecoveryPoint:
    def test_preview_shows_the_candidate_and_touches_nothing(self, around: Surroundings) -> None:
        add_point(around.store, 1)
        before = list(around.store.calls)
        assert RecoveryPoint(around.world).preview(POINT)["pointId"] == "shop1-1-1"
        assert around.store.calls == before

    def test_is_resolved_once_per_run(self, around: Surroundings) -> None:
        add_point(around.store, 1)
        kind = RecoveryPoint(around.world)
        first_id, first = kind.create(POINT, around.session)
        add_point(around.store, 2)
        again_id, again = kind.create(POINT, around.session)
        assert (first_id, first) == (again_id, again)
        assert kind.preview(POINT) == first
        assert kind.create({**POINT, "run": "r2"}, around.session)[0] == "shop1-1-2"

    def test_another_selector_in_the_same_run_is_refused_until_the_first_is_forgotten(
        self, around: Surroundings
    ) -> None:
        add_point(around.store, 1)
        add_point(around.store, 2)
        kind = RecoveryPoint(around.world)
        resource_id, state = kind.create(POINT, around.session)
        other = {**POINT, "selector": "shop1-1-1"}
        with pytest.raises(Conflict):
            kind.create(other, around.session)
        kind.delete(resource_id, state, around.session)
        assert kind.create(other, around.session)[0] == "shop1-1-1"

    def test_read_never_says_gone(self, around: Surroundings) -> None:
        point = add_point(around.store, 1)
        kind = RecoveryPoint(around.world)
        resource_id, state = kind.create(POINT, around.session)
        around.store.delete("manifests", point.blob)
        around.store.delete("runs", selection_blob("shop", "r1", "shop1"))
        assert kind.read(resource_id, state, around.session) == state

    def test_no_point_is_an_error_with_a_remedy(self, around: Surroundings) -> None:
        with pytest.raises(NotFound) as caught:
            RecoveryPoint(around.world).create(POINT, around.session)
        assert caught.value.remedy

    def test_a_broken_manifest_is_passed_over_and_named(self, around: Surroundings) -> None:
        add_point(around.store, 1)
        around.store.put("manifests", "shop1/000001-0000000002.json", b"{")
        assert RecoveryPoint(around.world).create(POINT, around.session)[0] == "shop1-1-1"
        assert "000001-0000000002" in around.warnings[-1]


class TestBlobCopy:
    @staticmethod
    def inputs(snapshot: str) -> dict[str, Any]:
        return {
            "subscription": SUBSCRIPTION,
            "account": "vault",
            "sourceContainer": "replicas",
            "sourceBlob": "shop1/os.vhd",
            "snapshot": snapshot,
            "container": "runs",
            "blob": "shop/r1/shop1/os.vhd",
        }

    def content(self, store: BlobStore) -> bytes:
        return store.read("runs", "shop/r1/shop1/os.vhd", 0, 512)

    def test_copies_the_snapshot_not_the_live_replica(self, around: Surroundings) -> None:
        point = add_point(around.store, 1, content=b"\1" * 512)
        add_point(around.store, 2, content=b"\2" * 512)
        kind = BlobCopy(around.world)
        resource_id, state = kind.create(self.inputs(point.disks[0].snapshot), around.session)
        assert self.content(around.store) == b"\1" * 512
        assert kind.read(resource_id, state, around.session) == state
        assert state["url"] == kind.preview(self.inputs(point.disks[0].snapshot))["url"]

    def test_a_finished_copy_is_not_made_again(self, around: Surroundings) -> None:
        inputs = self.inputs(add_point(around.store, 1).disks[0].snapshot)
        kind = BlobCopy(around.world)
        kind.create(inputs, around.session)
        before = list(around.store.calls)
        kind.create(inputs, around.session)
        assert around.store.calls == before

    @pytest.mark.parametrize("faults", [".E", "..E", "..A", "..D", ".A", "A"])
    def test_an_interrupted_copy_is_made_whole(self, around: Surroundings, faults: str) -> None:
        inputs = self.inputs(add_point(around.store, 1, content=b"\7" * 512).disks[0].snapshot)
        kind = BlobCopy(around.world)
        around.store.script(faults)
        with pytest.raises(Unreachable):
            kind.create(inputs, around.session)
        around.store.heal()
        resource_id, state = kind.create(inputs, around.session)
        assert self.content(around.store) == b"\7" * 512
        assert kind.read(resource_id, state, around.session) == state

    def test_a_copy_of_another_snapshot_is_replaced(self, around: Surroundings) -> None:
        first = add_point(around.store, 1, content=b"\1" * 512)
        second = add_point(around.store, 2, content=b"\2" * 512)
        kind = BlobCopy(around.world)
        resource_id, state = kind.create(self.inputs(first.disks[0].snapshot), around.session)
        kind.create(self.inputs(second.disks[0].snapshot), around.session)
        assert self.content(around.store) == b"\2" * 512
        assert kind.read(resource_id, state, around.session) is None

    def test_delete_removes_only_the_copy(self, around: Surroundings) -> None:
        inputs = self.inputs(add_point(around.store, 1).disks[0].snapshot)
        kind = BlobCopy(around.world)
        resource_id, state = kind.create(inputs, around.session)
        kind.delete(resource_id, state, around.session)
        kind.delete(resource_id, state, around.session)
        assert list(around.store.list("runs")) == []
        assert around.store.read("replicas", "shop1/os.vhd", 0, 512, snapshot=inputs["snapshot"])


@contextmanager
def listening(behaviour: str) -> Iterator[int]:
    """Serve connections that speak, stay silent until the other side ends, or close at once."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                if behaviour == "http":
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshop open")
                elif behaviour == "speaks":
                    connection.sendall(b"SSH-2.0\r\n")
                elif behaviour == "silent":
                    connection.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


class TestHealthCheck:
    @staticmethod
    def inputs(kind: str, **more: Any) -> dict[str, Any]:
        base = {"subscription": SUBSCRIPTION, "resourceGroup": "g", "vmName": "shop1", "address": "10.20.1.10"}
        return {**base, "kind": kind, "port": 8080, "timeout": 0, **more}

    @pytest.mark.parametrize("behaviour", ["speaks", "silent"])
    def test_tcp_passes_when_somebody_is_there(self, around: Surroundings, behaviour: str) -> None:
        with listening(behaviour) as port:
            around.endpoint = ("127.0.0.1", port)
            _, outputs = HealthCheck(around.world).create(self.inputs("tcp"), around.session)
        assert outputs["state"] == "passed"
        assert outputs["endpoint"] == f"127.0.0.1:{port}"
        assert outputs["passedAt"] == NOW.isoformat()

    def test_tcp_does_not_take_a_forwarder_for_the_server(self, around: Surroundings) -> None:
        with listening("closes") as port:
            around.endpoint = ("127.0.0.1", port)
            with pytest.raises(NotReady):
                HealthCheck(around.world).create(self.inputs("tcp"), around.session)

    def test_http_passes_on_status_and_content(self, around: Surroundings) -> None:
        with listening("http") as port:
            around.endpoint = ("127.0.0.1", port)
            kind = HealthCheck(around.world)
            assert kind.create(self.inputs("http", path="/", contains="shop"), around.session)[1]["state"] == "passed"
            with pytest.raises(NotReady) as caught:
                kind.create(self.inputs("http", path="/", contains="bank"), around.session)
            assert "without the expected text" in caught.value.message
            with pytest.raises(NotReady) as caught:
                kind.create(self.inputs("http", path="/", status=404), around.session)
            assert "HTTP 200" in caught.value.message

    def test_what_did_not_pass_is_kept_and_asked_again(self, around: Surroundings) -> None:
        with listening("closes") as port:
            around.endpoint = ("127.0.0.1", port)
            kind = HealthCheck(around.world)
            with pytest.raises(NotReady) as caught:
                kind.create(self.inputs("tcp"), around.session)
        assert caught.value.outputs["state"] == "booted, not healthy"
        assert caught.value.outputs["lastAnswer"]
        with listening("speaks") as port:
            around.endpoint = ("127.0.0.1", port)
            outputs = kind.update(caught.value.resource_id, caught.value.outputs, self.inputs("tcp"), around.session)
        assert outputs["state"] == "passed"

    def test_what_did_not_pass_is_due_even_when_a_refresh_forgot_that_it_was_not_ready(
        self, around: Surroundings
    ) -> None:
        kind = HealthCheck(around.world)
        assert kind.due({**self.inputs("tcp"), "state": "booted, not healthy"}) == "state"
        assert kind.due({**self.inputs("tcp"), "state": "passed"}) is None

    def test_each_kind_says_what_it_needs(self, around: Surroundings) -> None:
        kind = HealthCheck(around.world)
        told = {which: [one.property for one in kind.check(self.inputs(which))] for which in ("ssh", "sql", "icmp")}
        assert told == {"ssh": ["server", "ssh", "command"], "sql": ["engine"], "icmp": ["kind"]}

    def test_a_longer_time_out_does_not_ask_again(self, around: Surroundings) -> None:
        state = {**self.inputs("tcp"), "state": "passed", "passedAt": "then", "endpoint": "e", "lastAnswer": "a"}
        outputs = HealthCheck(around.world).update("x", state, self.inputs("tcp", timeout=9), around.session)
        assert outputs == {**state, "timeout": 9}


class TestProtection:
    @pytest.fixture
    def kind(self, around: Surroundings) -> Protection:
        CertificateAuthority(around.world).create(CA, around.session)
        return Protection(around.world)

    def test_installs_and_keeps_no_key(self, around: Surroundings, kind: Protection) -> None:
        resource_id, state = kind.create(PROTECTION, around.session)
        assert resource_id == "shop1"
        assert around.push.calls == ["install"]
        assert "PRIVATE" not in json.dumps(state)
        assert kind.due(state) is None

    def test_another_package_or_a_stopped_agent_calls_for_an_update(
        self, around: Surroundings, kind: Protection
    ) -> None:
        resource_id, state = kind.create(PROTECTION, around.session)
        around.push.installed = healthy(problems=("lifeboat-agent.service is failed",))
        stopped = kind.read(resource_id, state, around.session)
        assert stopped is not None
        assert kind.due(stopped) == "problems"
        (around.folder / "agent.pyz").write_bytes(b"newer")
        assert kind.due(state) == "agentSha256"

    def test_an_agent_that_was_removed_by_hand_is_gone(self, around: Surroundings, kind: Protection) -> None:
        resource_id, state = kind.create(PROTECTION, around.session)
        around.push.installed = None
        assert kind.read(resource_id, state, around.session) is None

    def test_a_burnt_site_does_not_empty_the_state(self, around: Surroundings, kind: Protection) -> None:
        resource_id, state = kind.create(PROTECTION, around.session)
        around.push.error = Unreachable("shop1: SSH is not reachable", remedy="check")
        assert kind.read(resource_id, state, around.session) == state
        assert "was not asked" in around.warnings[-1]

    def test_a_rebuild_takes_over_what_runs_and_changes_nothing(self, around: Surroundings, kind: Protection) -> None:
        around.rebuilding = True
        kind = Protection(around.world)
        with pytest.raises(NotFound) as missing:
            kind.create(PROTECTION, around.session)
        assert missing.value.code == "agent-missing"
        around.push.installed = healthy(problems=("lifeboat-agent.service is failed",))
        _, state = kind.create(PROTECTION, around.session)
        (around.folder / "agent.pyz").write_bytes(b"newer")
        assert kind.due(state) is None
        assert around.push.calls == ["adopt", "adopt"]
        around.rebuilding = False
        assert Protection(around.world).due(state) == "problems"

    def test_a_half_installation_is_kept_with_its_reason(self, around: Surroundings, kind: Protection) -> None:
        steps = ["folder /etc/lifeboat"]
        around.push.error = PartlyInstalled(Unreachable("the connection broke", remedy="again"), None, steps)
        with pytest.raises(NotReady) as caught:
            kind.create(PROTECTION, around.session)
        assert caught.value.outputs["problems"] == ["the connection broke"]
        assert kind.due(caught.value.outputs) == "problems"
        (entry,) = caught.value.outputs["log"]
        assert (entry["steps"], entry["outcome"]) == (steps, "unreachable")
        around.push.error = None
        state = kind.update("shop1", caught.value.outputs, PROTECTION, around.session)
        assert [each["outcome"] for each in state["log"]] == ["unreachable", "done"]

    def test_what_was_done_when_and_from_where_is_kept_and_an_idle_run_adds_nothing(
        self, around: Surroundings, kind: Protection
    ) -> None:
        _, state = kind.create(PROTECTION, around.session)
        (entry,) = state["log"]
        assert entry["at"] == NOW.isoformat()
        assert entry["from"].endswith(f"@{socket.gethostname()}")
        assert entry["agent"] == state["agentSha256"]
        assert entry["steps"] == ["start of the agent"]
        again = kind.update("shop1", state, PROTECTION, around.session)
        assert again["log"] == state["log"]

    def test_removal_of_an_unreachable_server_wants_it_named(self, around: Surroundings, kind: Protection) -> None:
        resource_id, state = kind.create(PROTECTION, around.session)
        around.push.error = Unreachable("shop1: SSH is not reachable")
        with pytest.raises(Unreachable) as caught:
            kind.delete(resource_id, state, around.session)
        assert "dr:forgetUnreachable shop1" in caught.value.remedy
        around.configuration["forgetUnreachable"] = "db1, shop1"
        kind.delete(resource_id, state, around.session)
        assert any("was forgotten" in line for line in around.warnings)
