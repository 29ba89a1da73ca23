"""The thread that follows how far the stream is stored: a long poll on a connection of its own."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Callable, Optional

from agent.link import Link, counter, pause_seconds
from dr.errors import Unreachable

WAIT_SECONDS = 20


@dataclass(frozen=True)
class Position:
    """What a process server said last about the stream."""

    stored: int
    writer_epoch: int
    store_went_back: bool
    last_point: Optional[str]


class Follower:
    """Keeps `position` current while `following` returns a link."""

    def __init__(self, server: str, following: Callable[[], Optional[Link]], wake: threading.Event) -> None:
        self._path = f"/v1/servers/{server}/position"
        self._following = following
        self._wake = wake
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self.position: Optional[Position] = None
        self.closed = False

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End after the running poll; nobody waits for it."""
        self._stop.set()

    def _run(self) -> None:
        attempt = 0
        while not self._stop.is_set():
            link = self._following()
            if link is None:
                self._stop.wait(0.2)
                continue
            position = self._poll(link)
            attempt = 0 if position else attempt + 1
            if position is None:
                self._stop.wait(pause_seconds(attempt, longest=3.0))
            elif position != self.position:
                self.position = position
                self._wake.set()
            else:
                self._stop.wait(0.05)

    def take_closed(self) -> bool:
        """Tell, once, that the process server does not serve the stream any more: it has to be opened again."""
        closed, self.closed = self.closed, False
        return closed

    def _poll(self, link: Link) -> Optional[Position]:
        stored = self.position.stored if self.position else 0
        path = f"{self._path}?stored_after={stored}&wait={WAIT_SECONDS}"
        try:
            answer = link.request("GET", path, seconds=WAIT_SECONDS + 10)
            if not answer.ok:
                if answer.code == "writer-changed":
                    self.closed = True
                    self._wake.set()
                return None
            body = answer.body
            point = body.get("last_point")
            return Position(
                counter(body["stored"]),
                counter(body["writer_epoch"]),
                bool(body.get("store_went_back")),
                str(point) if point is not None else None,
            )
        except (Unreachable, KeyError, TypeError, ValueError):
            return None
