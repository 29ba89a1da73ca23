"""Real databases on a folder of the test's own: started, kept busy, and started again on what a point holds."""

from __future__ import annotations

import subprocess
import threading
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path

from tests.agent.protected import wait_for

PROGRAMS = Path("/usr/lib/postgresql")


class Database(ABC):
    """One server on `folder`/data, reached by a socket in `home`; `settings` is what the drop-in is told."""

    user: str

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder, self.home = folder, home
        self.data = folder / "data"
        self.log = home / "server.log"
        self.settings = home / "settings"
        self._server: subprocess.Popen[bytes] | None = None
        self.said = ""

    @abstractmethod
    def make(self) -> None:
        """Make an empty database."""

    @abstractmethod
    def _command(self) -> list[str]: ...

    @abstractmethod
    def client(self) -> list[str]:
        """Return the client that reads SQL from its input and prints rows, one a line."""

    def start(self, *options: str) -> None:
        with self.log.open("ab") as log:
            self._server = subprocess.Popen(
                [*self._command(), *options], stdout=log, stderr=log, user=self.user, group=self.user, cwd="/"
            )
        wait_for("the database", self._answers, 30)

    def _answers(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, self.log.read_text()
        done = subprocess.run(self.client(), input=b"SELECT 1;\n", capture_output=True, check=False)
        return done.stdout.strip() == b"1"

    def ask(self, sql: str) -> list[str]:
        done = subprocess.run(self.client(), input=sql.encode(), capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().split("\n")[:-1]

    def stop(self) -> None:
        if self._server is not None and self._server.poll() is None:
            self._server.terminate()
            try:
                self._server.wait(20)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()


class PostgreSql(Database):
    user = "postgres"

    def make(self) -> None:
        self.programs = max(PROGRAMS.glob("*/bin"))
        self.folder.chmod(0o755)
        command = ["install", "-d", "-o", self.user, "-g", self.user, str(self.data), str(self.home / "socket")]
        subprocess.run(command, check=True)
        initdb = [str(self.programs / "initdb"), "-D", str(self.data), "-U", "postgres", "-A", "peer", "--no-sync"]
        subprocess.run(initdb, check=True, user=self.user, group=self.user, cwd="/", stdout=subprocess.DEVNULL)
        self._settle()

    def _settle(self) -> None:
        self.settings.write_text(f"[lifeboat]\nhost={self.home}/socket\nport=5544\n")
        self.settings.chmod(0o644)

    def copy(self, folder: Path, home: Path) -> PostgreSql:
        other = PostgreSql(folder, home)
        other.programs = self.programs
        subprocess.run(["install", "-d", "-o", self.user, "-g", self.user, str(home / "socket")], check=True)
        other._settle()
        return other

    def _command(self) -> list[str]:
        options = {"listen_addresses": "", "unix_socket_directories": f"{self.home}/socket", "port": "5544"}
        more = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        return [str(self.programs / "postgres"), "-D", str(self.data), *more]

    def client(self) -> list[str]:
        return [*self._as(), "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", *self._place(), "postgres"]

    def bench(self, *options: str) -> list[str]:
        return [*self._as(), str(self.programs / "pgbench"), *self._place(), *options, "postgres"]

    def _as(self) -> list[str]:
        return ["setpriv", "--reuid", self.user, "--regid", self.user, "--clear-groups"]

    def _place(self) -> list[str]:
        return ["-h", f"{self.home}/socket", "-p", "5544"]

    def redo_bytes(self) -> int:
        """Return how much log the last start had to go through."""
        lines = self.log.read_text().splitlines()
        begin = next(line.split("redo starts at ")[1] for line in lines if "redo starts at " in line)
        end = next(line.split("redo done at ")[1].split()[0] for line in lines if "redo done at " in line)
        return _place_in_log(end) - _place_in_log(begin)


def _place_in_log(written: str) -> int:
    high, low = written.split("/")
    return (int(high, 16) << 32) + int(low, 16)


class MariaDb(Database):
    user = "mysql"

    def make(self) -> None:
        self.folder.chmod(0o755)
        places = [str(self.data), str(self.home / "socket")]
        subprocess.run(["install", "-d", "-o", self.user, "-g", self.user, *places], check=True)
        command = ["mariadb-install-db", "--no-defaults", f"--user={self.user}", f"--datadir={self.data}"]
        how = ["--auth-root-authentication-method=socket", "--skip-test-db"]
        subprocess.run([*command, *how], check=True, capture_output=True)
        self._settle()

    def _settle(self) -> None:
        self.settings.write_text(f"[client]\nsocket={self.home}/socket/s\n")

    def copy(self, folder: Path, home: Path) -> MariaDb:
        other = MariaDb(folder, home)
        subprocess.run(["install", "-d", "-o", self.user, "-g", self.user, str(home / "socket")], check=True)
        other._settle()
        return other

    def _command(self) -> list[str]:
        own = [f"--datadir={self.data}", f"--socket={self.home}/socket/s", f"--pid-file={self.home}/socket/pid"]
        return ["mariadbd", "--no-defaults", *own, "--skip-networking"]

    def client(self) -> list[str]:
        return ["mariadb", f"--defaults-file={self.settings}", "--batch", "--skip-column-names", "--unbuffered"]


class Ledger:
    """Inserts 1, 2, 3, … each in a transaction of its own; `acknowledged` is the last one that was."""

    def __init__(self, database: Database, insert: str) -> None:
        """`insert` has `{n}` in it and answers one line."""
        self.acknowledged = 0
        self._insert = insert
        self._client = subprocess.Popen(database.client(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._ended = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        assert self._client.stdin is not None and self._client.stdout is not None
        with suppress(OSError):
            while not self._ended:
                self._client.stdin.write(self._insert.format(n=self.acknowledged + 1).encode() + b"\n")
                self._client.stdin.flush()
                if not self._client.stdout.readline().strip():
                    return  # the client has ended
                self.acknowledged += 1

    def stop(self) -> None:
        self._ended = True
        self._thread.join(10)
        self._client.kill()
        self._client.wait()
