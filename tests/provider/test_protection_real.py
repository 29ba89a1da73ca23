"""`dr:index:Protection` on a real sshd: installed, nothing to do, stopped by hand, removed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dr.provider.certificate_authority import CertificateAuthority
from dr.provider.protection import Protection
from dr.push import install
from tests.certificates.holders import site_certificates
from tests.provider.worlds import SUBSCRIPTION, Surroundings
from tests.push.enrolled import enrol
from tests.push.rig import Server, package, running_server

pytestmark = pytest.mark.real


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    with running_server(folder) as running:
        yield running


def test_the_whole_life_of_a_protection(tmp_path: Path, server: Server) -> None:
    around = Surroundings(tmp_path, now=datetime.now(UTC))
    agent = package(tmp_path / "agent.pyz", "1")
    world = replace(around.world, push=lambda: install, agent_package=lambda: agent)
    authority = {"name": "ca-harbour", "site": "harbour", "subscription": SUBSCRIPTION}
    CertificateAuthority(world).create(authority, around.session)
    declared = server.protection
    inputs = {
        "site": "harbour",
        "subscription": SUBSCRIPTION,
        "certificateAuthority": "ca-harbour",
        "server": declared.server,
        "ssh": {
            "address": declared.ssh.address,
            "port": declared.ssh.port,
            "user": declared.ssh.user,
            "keyFile": declared.ssh.key_file,
            "hostKey": declared.ssh.host_key,
        },
        "disks": [
            {"name": disk.name, "device": disk.device, "replica": disk.replica, "digests": disk.digests}
            for disk in declared.disks
        ],
        "processServers": list(declared.process_servers),
        "configurationServer": declared.configuration_server,
        "initialPolicy": {"crashConsistentSeconds": 300, "rpoThresholdSeconds": 3600, "retentionSeconds": 86400},
    }
    certificates = site_certificates(world.site, "harbour")
    kind = Protection(world)
    before = server.inventory()
    resource_id, state = kind.create(inputs, around.session)
    assert state["unitState"] == "active"
    assert state["diskBytes"]["os"] > 0
    assert kind.due(state) is None
    assert any("no certificate yet" in warning for warning in around.warnings)
    waiting = kind.read(resource_id, state, around.session)
    assert waiting is not None
    assert kind.due(waiting) == "problems", "a refresh sees it"
    enrol(server.shell, certificates)
    seen = kind.read(resource_id, state, around.session)
    assert seen == state
    assert kind.due(seen) is None

    package(agent, "2")
    assert kind.due(seen) == "agentSha256"
    state = kind.update(resource_id, seen, inputs, around.session)
    assert kind.due(state) is None

    kind.delete(resource_id, state, around.session)
    assert kind.read(resource_id, state, around.session) is None
    assert {(each.role, each.name) for each in certificates.register.revoked()} == {
        ("agent", "shop1"),
        ("enrolment", "shop1"),
    }
    assert server.inventory() == before
