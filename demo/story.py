"""Tell the demo as a story: one line per step with the time it took, on stdout, flushed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Story:
    """Print chapters and steps; `seconds` is the time since the story began."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        print(f"\n{title}\n{'-' * len(title)}", flush=True)

    def say(self, text: str) -> None:
        """Tell one fact."""
        print(f"  {self.seconds:6.1f} s  {text}", flush=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Tell what is being done, and how long it took once it is done."""
        self.say(f"{text} …")
        begin = time.monotonic()
        yield
        self.say(f"  done in {time.monotonic() - begin:.1f} s")
