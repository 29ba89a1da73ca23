"""The drop-ins: how PostgreSQL and MariaDB write everything down for a cut.

Who connects is the operating system's user (`postgres`, or root), as both databases let him in by default. Where they
do not, `settings` names a file of theirs: a service file of PostgreSQL (its section `lifeboat` is used), or an option
file of MariaDB. No password is ever in a command line or in an environment.
"""

from __future__ import annotations

import os
import pwd
import re
import selectors
import shutil
import subprocess
import time
from contextlib import suppress
from typing import Callable, List, Mapping

from agent.application import MARIADB, Application
from agent.scripts import Abandoned, ScriptFailed, ScriptLate, end_group, refuse_unsafe, run, start

HELD_MARK, RELEASED_MARK = "lifeboat-held", "lifeboat-released"
_POSTGRES = "postgres"
_STAGES_SINCE = (10, 4)
# With 0 a commit may be in memory alone, and no FLUSH changes that (tried with 10.11); only a checkpoint does.
_LAZY = (
    "SELECT CONCAT('lazy ', COUNT(*)) FROM information_schema.GLOBAL_VARIABLES"
    " WHERE VARIABLE_NAME = 'INNODB_FLUSH_LOG_AT_TRX_COMMIT' AND VARIABLE_VALUE = '0';"
)
Stop = Callable[[], bool]


def check_point(application: Application, environment: Mapping[str, str], abandoned: Stop) -> None:
    """Let PostgreSQL write everything down. Raises as `scripts.run`.

    Twice: recovery begins where the last checkpoint *began*, and the first one may take long, the second not.
    """
    what = f"application {application.name}: CHECKPOINT"
    psql = _program(("psql",), what)
    told = {**environment, "HOME": _home(_POSTGRES, what)}
    if application.settings:
        told.update({"PGSERVICEFILE": application.settings, "PGSERVICE": "lifeboat"})
    command = [
        psql,
        "-X",
        "-q",
        "-w",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        "postgres",
        "-c",
        "CHECKPOINT",
        "-c",
        "CHECKPOINT",
    ]
    seconds = application.timeout_seconds
    run(command, what, seconds=seconds, environment=told, user=_POSTGRES, abandoned=abandoned)


class MariaDbSession:
    """A session of the client `mariadb` that keeps commits back from `hold` to `release`.

    `BACKUP STAGE START` and `BLOCK_COMMIT`, as MariaDB's documentation has it for snapshots of storage: tables without
    transactions are on disk, and nothing is committed. Servers older than 10.4 have `FLUSH TABLES WITH READ LOCK`
    only. If we die the server ends the session, and with it what was kept back.
    """

    def __init__(self, application: Application, environment: Mapping[str, str]) -> None:
        self._what = f"application {application.name}: {MARIADB}"
        self._seconds = application.timeout_seconds
        client = _program(("mariadb", "mysql"), self._what)
        settings = [f"--defaults-file={application.settings}"] if application.settings else []
        options = ["--batch", "--skip-column-names", "--unbuffered", "--skip-reconnect"]
        self._process = start(
            [client, *settings, *options], self._what, environment=environment, user=None, stdin=subprocess.PIPE
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        os.set_blocking(self._out.fileno(), False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._out, selectors.EVENT_READ)
        self._said = b""
        self._release = ""

    def hold(self, abandoned: Stop) -> None:
        """Keep commits back from now on. Raises `ScriptFailed`, `ScriptLate`, `Abandoned`; `close` is due then."""
        deadline = time.monotonic() + self._seconds
        version = self._ask("SELECT CONCAT('version ', VERSION());", "version ", deadline, abandoned)
        lazy = self._ask(_LAZY, "lazy ", deadline, abandoned)
        # The server must give up before we do: one that waits for a lock does not see that its client has gone.
        wait = max(1, int(self._seconds * 0.8))
        lines = [f"SET SESSION lock_wait_timeout={wait};"]
        if lazy != "0":
            lines += ["SET GLOBAL innodb_log_checkpoint_now=ON;"]
        if stages_of(version):
            lines += ["BACKUP STAGE START;", "BACKUP STAGE BLOCK_COMMIT;"]
            self._release = "BACKUP STAGE END;"
        else:
            lines += ["FLUSH TABLES WITH READ LOCK;"]
            self._release = "UNLOCK TABLES;"
        self._ask("\n".join([*lines, f"SELECT '{HELD_MARK}';"]), HELD_MARK, deadline, abandoned)

    def release(self) -> None:
        """Let commits go on; raises `ScriptFailed` or `ScriptLate` when they were not kept back until now."""
        deadline = time.monotonic() + self._seconds
        self._ask(f"{self._release}\nSELECT '{RELEASED_MARK}';", RELEASED_MARK, deadline, lambda: False)

    def close(self) -> None:
        """End the session."""
        self._selector.close()
        with suppress(OSError):  # it went first
            self._in.close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            end_group(self._process)
        self._out.close()

    def _ask(self, statements: str, mark: str, deadline: float, abandoned: Stop) -> str:
        """Send statements and return the line that begins with `mark`."""
        try:
            self._in.write(statements.encode() + b"\n")
            self._in.flush()
        except OSError:
            pass  # the client has ended; what it said tells why
        while True:
            for line in self._lines():
                if line.startswith(mark):
                    return line[len(mark) :]
            if self._process.poll() is not None and not self._take():
                raise ScriptFailed(f"{self._what}: the session ended: {self._words()}")
            if abandoned():
                raise Abandoned(f"{self._what}: ended, because nobody waits for it any more")
            if time.monotonic() > deadline:
                raise ScriptLate(f"{self._what}: no answer within {self._seconds:g} s: {self._words()}")
            if self._selector.select(0.05):
                self._take()

    def _take(self) -> bool:
        try:
            data = os.read(self._out.fileno(), 65536)
        except BlockingIOError:
            return False
        self._said = (self._said + data)[-65536:]
        return bool(data)

    def _lines(self) -> List[str]:
        *whole, _ = self._said.decode(errors="replace").split("\n")
        return whole

    def _words(self) -> str:
        return " ".join(self._said[-2000:].decode(errors="replace").split()) or "it said nothing"


def stages_of(version: str) -> bool:
    """Tell whether a server of this version has BACKUP STAGE."""
    found = re.match(r"(\d+)\.(\d+)", version)
    return bool(found) and "MariaDB" in version and (int(found[1]), int(found[2])) >= _STAGES_SINCE  # type: ignore[index]


def _program(names: "tuple[str, ...]", what: str) -> str:
    for name in names:
        found = shutil.which(name, path="/usr/local/bin:/usr/bin:/bin")
        if found:
            refuse_unsafe(found, what)
            return found
    raise ScriptFailed(f"{what}: {' or '.join(names)} is not installed")


def _home(user: str, what: str) -> str:
    try:
        return pwd.getpwnam(user).pw_dir
    except KeyError:
        raise ScriptFailed(f"{what}: there is no user {user}") from None
