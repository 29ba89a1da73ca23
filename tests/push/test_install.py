"""Installation over a real sshd into a world of its own (see `rig.py`); systemd itself is in `test_machine.py`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from dr.certificates.site import SiteCertificates
from dr.errors import LifeboatError, PrerequisiteMissing, Refused
from dr.push import layout
from dr.push.install import NOT_ENROLLED, Installed, PartlyInstalled, inspect, install, remove
from tests.certificates.holders import peer_of
from tests.push.enrolled import enrol
from tests.push.rig import Server, cut_after, package

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def empty(server: Server) -> Iterator[None]:
    yield
    remove(server.protection)


def put(server: Server, certificates: SiteCertificates, agent: Path, said: list[str] | None = None) -> Installed:
    installed = install(
        server.protection,
        site="harbour",
        certificates=certificates,
        package=agent,
        protection_epoch=1,
        progress=(said if said is not None else []).append,
    )
    if not installed.enrolled:
        enrol(server.shell, certificates)
    return installed


def test_install_twice_inspect_and_remove_without_a_trace(
    server: Server, certificates: SiteCertificates, agent: Path
) -> None:
    before = server.inventory()
    assert inspect(server.protection, certificates=certificates) is None
    said: list[str] = []
    first = put(server, certificates, agent, said)
    assert first.problems == ()
    assert first.unit_state == "active"
    assert first.package_sha256 == hashlib.sha256(agent.read_bytes()).hexdigest()
    assert any("start of the agent" in line for line in said)
    assert {finding.code for finding in first.concerns} >= {"process-server-unreachable"}

    second = put(server, certificates, agent)
    assert second.changed == ()
    assert first.certificate_sha256 is None
    assert second.certificate_sha256 is not None
    assert inspect(server.protection, certificates=certificates) == replace(second, facts=None, concerns=())
    assert server.shell("cat /run/lifeboat/starts") == "1\n"

    assert remove(server.protection) is True
    assert remove(server.protection) is False
    assert inspect(server.protection, certificates=certificates) is None
    assert server.inventory() == before


def test_the_key_stays_on_the_server_and_the_signer_names_the_holder(
    server: Server, certificates: SiteCertificates, agent: Path
) -> None:
    said: list[str] = []
    installed = put(server, certificates, agent, said)
    key = server.shell(f"cat {layout.KEY}")
    assert "PRIVATE KEY" in key
    assert key.splitlines()[1] not in repr(installed) + "".join(said)
    certificate = x509.load_pem_x509_certificate(server.shell(f"cat {layout.CERTIFICATE}").encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["lifeboat://harbour/agent/shop1"]
    verified = server.shell(
        f"openssl verify -CAfile {layout.CA_CERTIFICATE} -untrusted {layout.CERTIFICATE} {layout.CERTIFICATE}"
    )
    assert verified.strip().endswith("OK")


def test_an_update_keeps_the_marks_and_the_identity(
    server: Server, certificates: SiteCertificates, agent: Path, tmp_path: Path
) -> None:
    before = put(server, certificates, agent)
    server.shell("echo marks >/run/lifeboat/os.map")
    after = put(server, certificates, package(tmp_path / "new.pyz", "2"))
    assert server.shell("cat /run/lifeboat/os.map /run/lifeboat/starts") == "marks\n1\n2\n"
    assert before.certificate_sha256 is None  # then it enrolled
    assert after.certificate_sha256 is not None
    assert "private key, made on the server" not in after.changed
    assert after.digest != before.digest
    assert layout.PROGRAM in after.changed
    assert layout.KEY not in after.changed


def test_what_was_changed_by_hand_is_found_and_put_right(
    server: Server, certificates: SiteCertificates, agent: Path
) -> None:
    put(server, certificates, agent)
    server.shell(f"chmod 644 {layout.KEY}; rm {layout.CONFIG}; systemctl stop {layout.UNIT}")
    seen = inspect(server.protection, certificates=certificates)
    assert seen is not None
    assert seen.problems == (
        "/etc/lifeboat/tls/agent.key has mode 644 and owner 0:0",
        "/etc/lifeboat/agent.json is missing",
        "lifeboat-agent.service is inactive (dead)",
    )
    assert put(server, certificates, agent).changed == (
        "rights of the private key",
        layout.CONFIG,
        "start of the agent",
    )


def test_blockers_change_nothing(server: Server, certificates: SiteCertificates, agent: Path) -> None:
    before = server.inventory()
    disks = (replace(server.protection.disks[0], device="/dev/disk/by-id/none"),)
    blocked = replace(server.protection, disks=disks, firmware="uefi")
    with pytest.raises(Refused) as caught:
        install(blocked, site="harbour", certificates=certificates, package=agent, protection_epoch=1)
    assert caught.value.code == "install-blocked"
    assert "disk-missing" in caught.value.message
    assert "firmware-differs" in caught.value.message
    assert server.inventory() == before


def test_an_agent_that_does_not_stay_up_is_named(
    server: Server, certificates: SiteCertificates, tmp_path: Path
) -> None:
    with pytest.raises(PartlyInstalled) as caught:
        put(server, certificates, package(tmp_path / "broken.pyz", "broken"))
    assert caught.value.code == "agent-not-running"
    assert caught.value.installed is not None
    assert caught.value.installed.problems == ("lifeboat-agent.service is failed (dead)", NOT_ENROLLED)


def test_a_missing_package_is_a_prerequisite(server: Server, certificates: SiteCertificates, tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteMissing, match="cannot be read"):
        put(server, certificates, tmp_path / "none.pyz")


@pytest.mark.timeout(300)
def test_after_a_cut_at_any_moment_the_next_run_continues(
    server: Server, certificates: SiteCertificates, tmp_path: Path
) -> None:
    """Also in the middle of the package: what is not whole never gets the program's name."""
    before = server.inventory()
    large = package(tmp_path / "large.pyz", "1")
    content = large.read_bytes()
    large.write_bytes(b"#" * 300_000 + content)  # a zip may have anything in front
    digest = hashlib.sha256(large.read_bytes()).hexdigest()
    for to_server_bytes in (18_000, 250_000):
        with cut_after(server, to_server_bytes) as through:
            try:
                install(through, site="harbour", certificates=certificates, package=large, protection_epoch=1)
            except LifeboatError as error:
                assert error.code in ("ssh-unreachable", "ssh-timeout", "facts-incomplete"), error
        program = server.shell(f"sha256sum {layout.PROGRAM} 2>/dev/null || true").split()
        assert program[:1] in ([], [digest])
        assert put(server, certificates, large).problems == ()
        assert remove(server.protection)
        assert server.inventory() == before


def test_a_revoked_agent_gets_a_new_key_and_a_token_that_is_good_once(
    server: Server, certificates: SiteCertificates, agent: Path
) -> None:
    put(server, certificates, agent)
    key = server.shell(f"cat {layout.KEY}")
    before = server.shell("cat /run/lifeboat/starts")
    assert {each.name for each in certificates.revoke("shop1", "the key was seen elsewhere")} == {"shop1"}
    seen = inspect(server.protection, certificates=certificates)
    assert seen is not None
    assert seen.problems == ("the agent needs another certificate: it was revoked",)

    said: list[str] = []
    again = install(
        server.protection,
        site="harbour",
        certificates=certificates,
        package=agent,
        protection_epoch=1,
        progress=said.append,
    )
    assert again.changed == ("private key, made on the server", "token for a certificate")
    assert (again.problems, again.enrolled) == ((), False)
    seen = inspect(server.protection, certificates=certificates)
    assert seen is not None
    assert seen.problems == (NOT_ENROLLED,)
    waiting = install(server.protection, site="harbour", certificates=certificates, package=agent, protection_epoch=1)
    assert (waiting.changed, waiting.enrolled) == ((), False), "its token waits"
    token = server.shell(f"cat {layout.TOKEN}")
    assert server.shell(f"stat -c '%a %U' {layout.TOKEN}") == "600 root\n"
    assert token.splitlines()[1] not in "".join(said) + repr(again)
    enrol(server.shell, certificates)
    assert server.shell(f"cat {layout.KEY}") != key
    assert server.shell("cat /run/lifeboat/starts") == before, "a running agent takes up its token by itself"
    assert put(server, certificates, agent).changed == ()
    with pytest.raises(Refused) as refused:
        certificates.certify(peer_of(token.encode()), other_request(server), ["shop1"])
    assert refused.value.code == "token-used"


def other_request(server: Server) -> bytes:
    command = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj /CN=thief"
    return server.shell(f"{command} 2>/dev/null").encode()
