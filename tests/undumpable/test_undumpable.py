"""A process of ours that dies by a real abort leaves no core; the same process without our call does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
SECRET = "planted-secret-of-the-test"
DIE = f"secret = '{SECRET}'\nimport os\nos.abort()"


def aborted(folder: Path, before: str) -> tuple[bool, list[Path]]:
    """Let a process abort where the system may write cores; tell whether it dumped one, and the files that it left."""
    folder.mkdir()
    program = f"import resource\nresource.setrlimit(resource.RLIMIT_CORE, (1 << 30, 1 << 30))\n{before}\n{DIE}"
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=folder, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}
    )
    _, status = os.waitpid(process.pid, 0)
    process.returncode = -signal.SIGABRT
    assert os.WTERMSIG(status) == signal.SIGABRT
    return os.WCOREDUMP(status), list(folder.iterdir())


def test_an_abort_leaves_no_core(tmp_path: Path) -> None:
    dumped, _ = aborted(tmp_path / "without", "")
    assert dumped, "this system writes cores, so that the next line says something"
    assert aborted(tmp_path / "with", "from dr.undumpable import forbid_dumps\nforbid_dumps()") == (False, [])


@pytest.mark.real
@pytest.mark.parametrize("name", ["dr serve", "dr.provider", "dr.local.standin", "agent"])
def test_what_holds_secrets_leaves_no_core(tmp_path: Path, name: str) -> None:
    """A real abort of each program, once it has started."""
    config = tmp_path / "config"
    os.mkfifo(config)  # the agent waits for what never comes
    commands = {
        "dr serve": ["dr", "serve"],
        "dr.provider": ["dr.provider", "127.0.0.1:1"],
        "dr.local.standin": ["dr.local.standin", "127.0.0.1:1"],
        "agent": ["agent", "run", "--config", str(config)],
    }
    folder = tmp_path / "here"
    folder.mkdir()
    process = subprocess.Popen(
        ["sh", "-c", 'ulimit -c unlimited; exec "$@"', "-", sys.executable, "-m", *commands[name]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "LIFEBOAT_LOCAL": str(tmp_path / "local")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    limits, deadline = Path(f"/proc/{process.pid}/limits"), time.monotonic() + 40
    # Soft and hard: a soft limit of 0 may be inherited, from before the shell raised it.
    while not re.search(r"^Max core file size +0 +0 ", limits.read_text(), re.MULTILINE):
        assert time.monotonic() < deadline, "it never forbids cores"
        time.sleep(0.05)
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGABRT)
    _, status = os.waitpid(process.pid, 0)
    process.returncode = -signal.SIGABRT
    assert (os.WTERMSIG(status), os.WCOREDUMP(status)) == (signal.SIGABRT, False)
    assert list(folder.iterdir()) == []
