"""Two process servers over one vault, each behind a wire that can be cut: the site of the proof."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

from tests.agent.protected import CHECKOUT
from tests.agent.whole_site import SERVER, certificates
from tests.tracking.vault import Vault

NAMES = ("ps1", "ps2")


class Wire:
    """A TCP way with a port that stays: whole, or cut (open connections end, new ones end at once)."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self.target, self.whole = 0, True
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self.whole = False
        with self._lock:
            ends, self._open = self._open, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            near, _ = self._listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", self.target)) if self.whole else None
            except OSError:
                far = None
            if far is None:
                near.close()
                continue
            with self._lock:
                self._open += [near, far]
            for ends in ((near, far), (far, near)):
                threading.Thread(target=_forward, args=ends, daemon=True).start()


def _forward(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 18):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


class Site:
    """As `tests.agent.whole_site.Site`, with process servers that are processes; there is no configuration server."""

    configuration_port = 1  # nobody listens: the agent says so and works on

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = certificates(folder)
        self.vault = Vault(folder)
        self.wires = {name: Wire() for name in NAMES}
        self._processes: dict[str, subprocess.Popen[str]] = {}
        self.kills = 0
        for name in NAMES:
            self.start(name)

    @property
    def process_port(self) -> int:
        return self.wires[NAMES[0]].port

    @property
    def addresses(self) -> list[str]:
        return [f"127.0.0.1:{wire.port}" for wire in self.wires.values()]

    def start(self, name: str) -> None:
        """Start a process server; it goes on with the spool that is there."""
        self.vault.open_gate(name)
        told = {
            "name": name,
            "cert": str(self.files.server[0]),
            "tls_key": str(self.files.server[1]),
            "ca": str(self.files.ca),
            "spool": str(self._spool(name)),
            "vault": self.vault.address,
            "key": self.vault.key,
        }
        command = [sys.executable, "-m", "tests.tracking.process_server"]
        log = (self.folder / f"{name}.log").open("a")
        with log:
            process = subprocess.Popen(
                command, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(told) + "\n")
        process.stdin.flush()
        port = process.stdout.readline()
        assert port, f"{name} did not start: {(self.folder / f'{name}.log').read_text()[-2000:]}"
        self._processes[name] = process
        self.wires[name].target = int(port)
        self.connect(name)

    def kill(self, name: str) -> None:
        """Kill -9 a process server; its gate stays shut."""
        self.vault.gates[name].shut = True
        process = self._processes.pop(name)
        process.kill()
        process.wait(20)
        self.wires[name].cut()
        self.kills += 1

    def burn(self, name: str) -> None:
        """Kill a process server and lose its spool."""
        self.kill(name)
        shutil.rmtree(self._spool(name))

    def cut_network(self, name: str) -> None:
        """Cut the agent off from a process server."""
        self.wires[name].cut()

    def connect(self, name: str) -> None:
        """End a cut."""
        self.wires[name].whole = True

    def restore(self) -> None:
        """Let every process server run, with whole wires and open gates."""
        for name in NAMES:
            if name not in self._processes:
                self.start(name)
            self.vault.gates[name].shut = False
            self.connect(name)

    def process(self, name: str) -> subprocess.Popen[str]:
        """Return the process of a process server that runs."""
        return self._processes[name]

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def replica(self, disk: str, size: int, snapshot: str | None = None, server: str = SERVER) -> bytes:
        return self.vault.replica(SERVER, disk, size)

    def close(self) -> None:
        for name in list(self._processes):
            self.kill(name)
        self.vault.close()

    def _spool(self, name: str) -> Path:
        return self.folder / f"{name}-spool"
