"""A way between two members that is slow, or takes nothing for a while: TCP, each word `delay` seconds late."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

LOOK_SECONDS = 0.02


class SlowWay:
    """Listens at a free port and forwards to `port`."""

    def __init__(self, port: int, delay: float) -> None:
        self._target = port
        self._delay = delay
        self._held = threading.Event()
        self._closed = False
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def hold(self) -> None:
        """Forward nothing from now on, and say so to nobody: what half-open connections are like."""
        self._held.set()

    def go_on(self) -> None:
        self._held.clear()

    def close(self) -> None:
        self._closed = True
        self._server.close()
        for each in self.connections:
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._closed:
                here, _ = self._server.accept()
                self.connections.append(here)
                try:
                    there = socket.create_connection(("127.0.0.1", self._target), 5)
                except OSError:
                    here.close()
                    continue
                self.connections.append(there)
                for one, other in ((here, there), (there, here)):
                    threading.Thread(target=self._forward, args=(one, other), daemon=True).start()

    def _forward(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                time.sleep(self._delay)
                while self._held.is_set():
                    time.sleep(LOOK_SECONDS)
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)
