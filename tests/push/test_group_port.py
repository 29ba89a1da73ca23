"""Who listens at the port of a replication group: the probe, on this machine."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dr.push import group_port
from dr.push.group_port import parse_port, port_probe
from dr.push.layout import PROGRAM
from dr.push.probes import Output

HOLD = """import socket, sys
held = socket.create_server(("127.0.0.1", 0))
print(held.getsockname()[1], flush=True)
sys.stdin.read()"""


def ask(port: int) -> str:
    done = subprocess.run(["sh", "-c", port_probe(port).command], capture_output=True, text=True, check=False)
    return parse_port(Output(done.returncode, done.stdout))


@pytest.mark.parametrize(("arguments", "says"), [((), "holder"), ((PROGRAM,), "")])
def test_another_program_is_told_by_its_name_and_our_agent_is_none(
    tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    program = tmp_path / "holder"
    shutil.copy(Path(sys.executable).resolve(), program)
    secret = "--password=hidden"
    with subprocess.Popen(
        [program, "-I", "-c", HOLD, secret, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONHOME": sys.base_prefix},
    ) as process:
        assert process.stdout is not None
        assert ask(int(process.stdout.readline())) == says
        process.kill()


def test_a_free_port_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = int(taken.getsockname()[1])
        assert ask(port) != ""
    assert ask(port) == ""
    assert group_port.parse_port(Output(1, "")) == ""
