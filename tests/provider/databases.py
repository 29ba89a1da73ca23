"""Real databases on loopback, from Debian's packages, in a folder of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.push.rig import free_port

READY_SECONDS = 60


@contextmanager
def _folder(user: str) -> Iterator[Path]:
    # Not below pytest's own folder, which is closed to the users that databases run as.
    root = Path(tempfile.mkdtemp(prefix="lifeboat-db-", dir="/tmp"))
    shutil.chown(root, user, user)
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _as(user: str, command: Sequence[object], **more: object) -> list[str]:
    return ["runuser", "-u", user, "--", *map(str, command)]


@contextmanager
def _running(command: list[str], log: Path, end: signal.Signals) -> Iterator[None]:
    with log.open("wb") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True, cwd="/")
    try:
        yield
        assert process.poll() is None, log.read_text()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, end)
        process.wait(30)


@contextmanager
def postgresql(*, starting: bool = False) -> Iterator[int]:
    """Run a PostgreSQL that asks for passwords, and yield its port; `starting`: one that goes on recovering."""
    programs = max(Path("/usr/lib/postgresql").iterdir(), key=lambda version: int(version.name))
    with _folder("postgres") as root:
        data, port = root / "data", free_port()
        made = [programs / "bin/initdb", "-D", data, "-A", "scram-sha-256", "--pwfile=/etc/hostname", "-N"]
        subprocess.run(_as("postgres", made), check=True, capture_output=True, cwd="/")
        settings = [
            f"-cport={port}",
            "-clisten_addresses=127.0.0.1",
            f"-cunix_socket_directories={root}",
            "-cfsync=off",
        ]
        if starting:
            (data / "standby.signal").touch()
            settings += ["-chot_standby=off", "-crestore_command=false"]
        server = _as("postgres", [programs / "bin/postgres", "-D", data, *settings])
        with _running(server, root / "log", signal.SIGINT):
            yield port


@contextmanager
def mariadb() -> Iterator[int]:
    """Run a MariaDB and yield its port."""
    with _folder("mysql") as root:
        data, port = root / "data", free_port()
        made = ["mariadb-install-db", "--no-defaults", f"--datadir={data}", "--skip-test-db", "--skip-name-resolve"]
        subprocess.run(_as("mysql", made), check=True, capture_output=True, cwd="/")
        where = [f"--datadir={data}", f"--port={port}", f"--socket={root}/socket", f"--pid-file={root}/pid"]
        server = _as("mysql", ["mariadbd", "--no-defaults", *where, "--bind-address=127.0.0.1", "--skip-name-resolve"])
        with _running(server, root / "log", signal.SIGTERM):
            yield port


def wait(seconds: float = READY_SECONDS) -> Iterator[None]:
    """Yield until it is too late."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        time.sleep(0.1)
    raise AssertionError("too late")
