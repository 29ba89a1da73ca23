"""A protection as `pulumi up` makes it, with the real engine, provider and sshd: what a person sees, Ctrl-C in the
middle, no secret anywhere, and nothing left.
"""

from __future__ import annotations

import base64
import os
import shlex
import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.push.pulumi import Project, declare, project
from tests.push.rig import PASSWORD, Server

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def ssh(server: Server) -> dict[str, Any]:
    """Through a jump host, to a user who needs his password for sudo."""
    declared = server.protection.ssh
    way = {"port": declared.port, "keyFile": declared.key_file, "hostKey": declared.host_key}
    jump = {"address": "localhost", "user": "free", **way}
    return {"user": "asked", "keyFile": declared.key_file, "sudoPassword": {"env": "SHOP_SUDO"}, "jump": jump}


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, server: Server, ssh: dict[str, Any]) -> Iterator[Project]:
    with project(tmp_path_factory.mktemp("one") / "project", server, ssh, {"SHOP_SUDO": PASSWORD}) as made:
        yield made


@pytest.fixture(scope="module")
def before(server: Server) -> str:
    server.shell("mkdir -p /var/lib/sudo/lectured; : >/var/lib/sudo/lectured/4712")  # what sudo itself would write
    return server.inventory()


def test_a_missing_secret_and_blockers_are_read_at_the_terminal(
    one: Project, server: Server, ssh: dict[str, Any], before: str
) -> None:
    plans = one.folder / "plans"
    declare(plans, server, {**ssh, "sudoPassword": {"env": "NOT_SET"}})
    code, said = one.up()
    assert code != 0
    assert "error: shop1: ssh.sudoPassword: the environment variable NOT_SET is not set (remedy: set NOT_SET " in said
    declare(plans, server, ssh, firmware="uefi")
    code, said = one.up()
    assert code != 0
    blocked = said[said.index("Diagnostics:") :]
    assert "    error: shop1: the agent cannot be installed, nothing was changed. This stands against it:\n" in blocked
    assert "      firmware-differs: declared is uefi, the server boots by bios\n" in blocked
    assert "          remedy: correct target.firmware\n" in blocked
    assert "Traceback" not in blocked
    assert one.outputs() is None
    assert server.inventory() == before


def test_ctrl_c_in_the_middle_leaves_a_named_state_and_the_next_up_continues(
    one: Project, server: Server, ssh: dict[str, Any]
) -> None:
    declare(one.folder / "plans", server, ssh)
    with one.start("up", "--yes", "--skip-preview") as process:
        deadline = time.monotonic() + 120
        while server.shell("ls /etc/lifeboat 2>/dev/null || true") == "":
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        said, _ = process.communicate()
    assert process.returncode != 0
    assert "shop1: interrupted before: " in said
    assert "it continues where this one stopped" in said
    assert not one.deployment().get("pending_operations")
    outputs = one.outputs()
    assert outputs is not None
    assert "lifeboat-agent.service is inactive (dead)" in outputs["problems"]
    assert outputs["log"][-1]["outcome"] == "install-interrupted"
    done = outputs["log"][-1]["steps"]
    assert done

    code, said = one.up()
    assert code == 0, said
    outputs = one.outputs()
    assert outputs is not None
    assert (outputs["problems"], outputs["initErrors"], outputs["unitState"]) == ([], [], "active")
    assert not set(done) & set(outputs["log"][-1]["steps"]), "what was done is not done again"

    code, said = one.up()
    assert (code, "updated" in said, "unchanged" in said) == (0, False, True), said


def test_no_password_is_seen_anywhere_and_destroy_leaves_nothing(one: Project, server: Server, before: str) -> None:
    code, said = one.run("destroy", "--yes", "--skip-preview")
    assert code == 0, said
    assert server.inventory() == before
    sought = [PASSWORD.encode(), base64.b64encode(PASSWORD.encode())]
    places = [path for path in one.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert any(".pulumi" in path.parts for path in places)
    assert [path for path in places if any(each in path.read_bytes() for each in sought)] == []
    assert server.shell(f"grep -raF {shlex.quote(PASSWORD)} /etc /run /var /root 2>/dev/null || true") == ""
