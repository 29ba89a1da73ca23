"""Installation over a real sshd into a world of its own (see `rig.py`); systemd itself is in `test_machine.py`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from dr.certificates.authority import Authority
from dr.errors import LifeboatError, PrerequisiteMissing, Refused
from dr.push import layout
from dr.push.install import Installed, PartlyInstalled, inspect, install, remove
from tests.push.rig import Server, cut_after, package

pytestmark = pytest.mark.real


@pytest.fixture(autouse=True)
def empty(server: Server) -> Iterator[None]:
    yield
    remove(server.protection)


def put(server: Server, authority: Authority, agent: Path, said: list[str] | None = None) -> Installed:
    return install(
        server.protection,
        site="harbour",
        authority=authority,
        package=agent,
        protection_epoch=1,
        progress=(said if said is not None else []).append,
    )


def test_install_twice_inspect_and_remove_without_a_trace(server: Server, authority: Authority, agent: Path) -> None:
    before = server.inventory()
    assert inspect(server.protection) is None
    said: list[str] = []
    first = put(server, authority, agent, said)
    assert first.problems == ()
    assert first.unit_state == "active"
    assert first.package_sha256 == hashlib.sha256(agent.read_bytes()).hexdigest()
    assert any("start of the agent" in line for line in said)
    assert {finding.code for finding in first.concerns} >= {"process-server-unreachable"}

    second = put(server, authority, agent)
    assert second.changed == ()
    assert inspect(server.protection) == replace(second, facts=None, concerns=())
    assert server.shell("cat /run/lifeboat/starts") == "1\n"

    assert remove(server.protection) is True
    assert remove(server.protection) is False
    assert inspect(server.protection) is None
    assert server.inventory() == before


def test_the_key_stays_on_the_server_and_the_signer_names_the_holder(
    server: Server, authority: Authority, agent: Path
) -> None:
    said: list[str] = []
    installed = put(server, authority, agent, said)
    key = server.shell(f"cat {layout.KEY}")
    assert "PRIVATE KEY" in key
    assert key.splitlines()[1] not in repr(installed) + "".join(said)
    certificate = x509.load_pem_x509_certificate(server.shell(f"cat {layout.CERTIFICATE}").encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["lifeboat://harbour/agent/shop1"]
    verified = server.shell(f"openssl verify -CAfile {layout.CA_CERTIFICATE} {layout.CERTIFICATE}")
    assert verified.strip().endswith("OK")


def test_an_update_keeps_the_marks_and_the_identity(
    server: Server, authority: Authority, agent: Path, tmp_path: Path
) -> None:
    before = put(server, authority, agent)
    server.shell("echo marks >/run/lifeboat/os.map")
    after = put(server, authority, package(tmp_path / "new.pyz", "2"))
    assert server.shell("cat /run/lifeboat/os.map /run/lifeboat/starts") == "marks\n1\n2\n"
    assert after.certificate_sha256 == before.certificate_sha256
    assert after.digest != before.digest
    assert layout.PROGRAM in after.changed
    assert layout.KEY not in after.changed


def test_what_was_changed_by_hand_is_found_and_put_right(server: Server, authority: Authority, agent: Path) -> None:
    put(server, authority, agent)
    server.shell(f"chmod 644 {layout.KEY}; rm {layout.CONFIG}; systemctl stop {layout.UNIT}")
    seen = inspect(server.protection)
    assert seen is not None
    assert seen.problems == (
        "/etc/lifeboat/tls/agent.key has mode 644 and owner 0:0",
        "/etc/lifeboat/agent.json is missing",
        "lifeboat-agent.service is inactive (dead)",
    )
    assert put(server, authority, agent).changed == (
        "rights of the private key",
        layout.CONFIG,
        "start of the agent",
    )


def test_blockers_change_nothing(server: Server, authority: Authority, agent: Path) -> None:
    before = server.inventory()
    disks = (replace(server.protection.disks[0], device="/dev/disk/by-id/none"),)
    blocked = replace(server.protection, disks=disks, firmware="uefi")
    with pytest.raises(Refused) as caught:
        install(blocked, site="harbour", authority=authority, package=agent, protection_epoch=1)
    assert caught.value.code == "install-blocked"
    assert "disk-missing" in caught.value.message
    assert "firmware-differs" in caught.value.message
    assert server.inventory() == before


def test_an_agent_that_does_not_stay_up_is_named(server: Server, authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(PartlyInstalled) as caught:
        put(server, authority, package(tmp_path / "broken.pyz", "broken"))
    assert caught.value.code == "agent-not-running"
    assert caught.value.installed is not None
    assert caught.value.installed.problems == ("lifeboat-agent.service is failed (dead)",)


def test_a_missing_package_is_a_prerequisite(server: Server, authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteMissing, match="cannot be read"):
        put(server, authority, tmp_path / "none.pyz")


@pytest.mark.timeout(300)
def test_after_a_cut_at_any_moment_the_next_run_continues(server: Server, authority: Authority, tmp_path: Path) -> None:
    """Also in the middle of the package: what is not whole never gets the program's name."""
    before = server.inventory()
    large = package(tmp_path / "large.pyz", "1")
    content = large.read_bytes()
    large.write_bytes(b"#" * 300_000 + content)  # a zip may have anything in front
    digest = hashlib.sha256(large.read_bytes()).hexdigest()
    for to_server_bytes in (18_000, 250_000):
        with cut_after(server, to_server_bytes) as through:
            try:
                install(through, site="harbour", authority=authority, package=large, protection_epoch=1)
            except LifeboatError as error:
                assert error.code in ("ssh-unreachable", "facts-incomplete"), error
        program = server.shell(f"sha256sum {layout.PROGRAM} 2>/dev/null || true").split()
        assert program[:1] in ([], [digest])
        assert put(server, authority, large).problems == ()
        assert remove(server.protection)
        assert server.inventory() == before
