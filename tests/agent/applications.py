"""Applications whose scripts write down when they ran and what they were told."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]


class Diary:
    """A folder of scripts, and the file that they all write to: one line each time, `APPLICATION PHASE OUTCOME`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.file = folder / "diary"
        self.file.touch()

    def application(self, name: str, *, pre: str = "", post: str = "", timeout: float = 10) -> dict[str, Any]:
        """Declare an application; `pre` and `post` are what its scripts do besides writing it down, in the shell."""
        scripts = {phase: self._script(f"{name}-{phase}", does) for phase, does in (("pre", pre), ("post", post))}
        return {
            "name": name,
            "use": "",
            "settings": "",
            "pre": [str(scripts["pre"]), "an argument"],
            "post": [str(scripts["post"])],
            "timeout_seconds": timeout,
        }

    def _script(self, name: str, does: str) -> Path:
        path = self.folder / name
        line = '"$LIFEBOAT_APPLICATION $LIFEBOAT_PHASE ${LIFEBOAT_OUTCOME:--}"'
        path.write_text(f"#!/bin/sh\necho {line} >>{self.file}\nenv >{self.folder}/{name}.env\n{does}\n")
        path.chmod(0o700)
        return path

    def lines(self) -> list[str]:
        return self.file.read_text().splitlines()

    def told(self, script: str) -> dict[str, str]:
        """Return the environment that a script had."""
        lines = (self.folder / f"{script}.env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines)


class RunningHolder:
    """A real holder at the other end of its pipes."""

    def __init__(
        self, folder: Path, applications: list[dict[str, Any]], cut: str = "cut-1", hold_seconds: float = 20
    ) -> None:
        self.folder = folder
        for name in ("run", "cache"):
            (folder / name).mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agent", "hold-applications"],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        )
        order = {
            "server": "shop1",
            "cut": cut,
            "run_folder": str(folder / "run"),
            "cache_folder": str(folder / "cache"),
            "applications": applications,
            "hold_seconds": hold_seconds,
        }
        self.say(json.dumps(order).encode() + b"\n")

    @property
    def record(self) -> Path:
        return self.folder / "cache/applications.json"

    def say(self, words: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(words)
        self.process.stdin.flush()

    def leave(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        return dict(json.loads(self.process.stdout.readline()))

    def end(self) -> dict[str, Any]:
        self.say(b"end\n")
        answer = self.answer()
        assert self.process.wait(10) == 0
        return answer
