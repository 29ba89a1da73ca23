"""A server on LVM is restarted, loses its power, and runs another kernel: each time the next point is what its disk is.

The tests follow each other on one server; nobody installs or resyncs anything by hand between them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest

from tests.end_to_end.estate import Estate
from tests.end_to_end.fleet import protected
from tools.machines.image import template
from tools.machines.laying import kernel_of
from tools.machines.shape import Shape
from tools.machines.source import wait_for
from tools.setup.paths import Cache

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1500)]

SHAPE = Shape(12, "bios", "lvm", "ext4")
OTHER_DEBIAN = 13  # whose kernel it runs for a while
ROOT = "root=/dev/mapper/harbour-root rw console=ttyS0 net.ifnames=0 quiet"
START_SECONDS = 600


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    """The server with its replica complete."""
    with protected(tmp_path_factory.mktemp("changes"), [SHAPE]) as fleet:
        fleet.up("site-local")
        fleet.wait_for_deltas()
        yield fleet.servers[SHAPE.name]


@pytest.fixture
def picture(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "picture.raw"
    (tmp_path / "picture.raw").unlink(missing_ok=True)


def test_after_a_restart_in_order_the_next_point_is_what_the_disk_is(server: Estate, picture: Path) -> None:
    before = boot_of(server)
    server.source.ssh("sudo systemctl --no-block reboot")
    came_back(server, before)
    same_as_picture(server, picture)


def test_after_a_power_cut_the_next_point_is_what_the_disk_is(server: Estate, picture: Path) -> None:
    before = boot_of(server)
    server.source.kill()
    server.source.start()
    came_back(server, before)
    same_as_picture(server, picture)


def test_under_another_kernel_the_next_point_is_what_the_disk_is(server: Estate, picture: Path, tmp_path: Path) -> None:
    before, release = boot_of(server), server.source.run("uname -r")
    server.source.shut_down()
    other = kernel_of(template(Cache.from_environment(), OTHER_DEBIAN), tmp_path)
    server.source.kernel = replace(other, options=ROOT)
    server.source.start()
    came_back(server, before)
    assert server.source.run("uname -r") != release
    assert (server.agent_file() or {})["tracker"]["kind"] == "ring+maps"
    same_as_picture(server, picture)


def boot_of(server: Estate) -> str:
    return server.source.run("cat /proc/sys/kernel/random/boot_id").strip()


def came_back(server: Estate, before: str) -> None:
    """Wait until the agent of another boot has compared everything, of its own accord and with the reason's name."""

    def another_boot() -> bool:
        with suppress(paramiko.SSHException, EOFError):  # its sshd is going down
            return boot_of(server) not in {"", before}
        return False

    def in_delta() -> bool:
        status = server.agent_file() or {}
        return status.get("boot_id") not in {None, before} and status.get("mode") == "delta"

    server.source.wait_ssh(timeout_seconds=START_SECONDS)
    wait_for("another boot", another_boot, timeout_seconds=START_SECONDS)
    wait_for("the end of the resync", in_delta, timeout_seconds=START_SECONDS)
    assert "tracking begins: reboot" in server.agent_log()


def same_as_picture(server: Estate, picture: Path) -> None:
    point = server.server.pictured_point([picture], print)
    assert server.differing_chunks(point, picture) == []
    server.verify(point)
