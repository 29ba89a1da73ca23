"""The SSH check on a real sshd: the protected server's own login, at another address."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from dr.errors import PrerequisiteMissing
from dr.model import SecretReference, Ssh
from dr.provider.health_check import HealthCheck
from dr.provider.resource import NotReady
from stacks.resources import ssh_properties  # what the program writes is what the provider reads
from tests.provider.worlds import SUBSCRIPTION, Surroundings
from tests.push.rig import PASSWORD, Server, free_port, make_key, running_server

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def declared(server: Server, **changes: Any) -> Ssh:
    """Return the login as it is declared; where the VM is reached is known only when it runs."""
    return replace(server.protection.ssh, address="10.20.1.10", port=22, **changes)


def check(around: Surroundings, server: Server, command: str, *, ssh: Ssh | None = None, timeout: int = 0) -> Any:
    around.endpoint = ("127.0.0.1", server.protection.ssh.port)
    inputs = {"subscription": SUBSCRIPTION, "resourceGroup": "g", "vmName": "vm1", "address": "10.20.1.10"}
    asked = {"kind": "ssh", "port": 22, "server": "shop1", "command": command, "timeout": timeout}
    login = {name: value for name, value in ssh_properties(ssh or declared(server)).items() if value is not None}
    return HealthCheck(around.world).create({**inputs, **asked, "ssh": login}, around.session)[1]


def reason(around: Surroundings, server: Server, command: str, **more: Any) -> str:
    with pytest.raises(NotReady) as caught:
        check(around, server, command, **more)
    assert caught.value.outputs["state"] == "booted, not healthy"
    return str(caught.value.outputs["lastAnswer"])


def test_a_command_that_ends_well_passes(around: Surroundings, server: Server) -> None:
    outputs = check(around, server, "test \"$(id -u)\" = 0 && echo 'it serves'")
    assert (outputs["state"], outputs["lastAnswer"]) == ("passed", "exit code 0")


def test_a_command_that_does_not_says_why(around: Surroundings, server: Server) -> None:
    assert reason(around, server, "echo 'shop.service is dead' >&2; exit 3") == "exit code 3: shop.service is dead"
    assert reason(around, server, "sleep 30") == "exit code 124: it took too long"
    assert server.shell("pgrep -fx 'sleep 30' || true") == "", "nothing is left running there"


def test_it_is_the_users_own_command_and_sudo_is_not_asked(around: Surroundings, server: Server) -> None:
    word = SecretReference(key_store="of-word")
    around.keys.put("of-word", PASSWORD.encode())
    ssh = declared(server, user="word", key_file=None, password=word)
    outputs = check(around, server, 'test "$(id -un)" = word', ssh=ssh)
    assert outputs["state"] == "passed"
    assert PASSWORD not in repr(outputs)


def test_a_server_that_is_not_there_yet_is_asked_until_the_time_is_over(around: Surroundings, server: Server) -> None:
    other = replace(server, protection=replace(server.protection, ssh=replace(server.protection.ssh, port=free_port())))
    assert "SSH is not reachable" in reason(around, other, "true")


def test_another_host_at_the_address_does_not_pass(around: Surroundings, server: Server) -> None:
    foreign = declared(server, host_key=make_key(server.folder / "foreign"))
    assert "the host key is not the declared one" in reason(around, server, "true", ssh=foreign)


def test_a_key_that_is_not_here_is_no_answer_of_the_server(around: Surroundings, server: Server) -> None:
    with pytest.raises(PrerequisiteMissing, match="nowhere"):
        check(around, server, "true", ssh=declared(server, key_file="/nowhere/key"))
