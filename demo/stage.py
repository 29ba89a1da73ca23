"""The demo's stage: its folder, a checkout of its own, and the commands a person would type.

FOLDER/checkout/    a copy of this checkout (burns with the site, and is made afresh after the fire)
FOLDER/plans/       the declaration, with this run's ports and host key (in git at a real company)
FOLDER/local/       LIFEBOAT_LOCAL: cloud/ plays Azure, site/ burns
FOLDER/source/      the protected server's disk and keys (burns)
FOLDER/safe/        the break-glass secret, and nothing else
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dr.target.folders import Folders

CHECKOUT = Path(__file__).resolve().parent.parent
CONSOLE_BYTES = 3000


class CommandFailed(Exception):
    """A command that a person would have typed did not end well."""


@dataclass(slots=True)
class Stage:
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def checkout(self) -> Path:
        return self.folder / "checkout"

    @property
    def plans(self) -> Path:
        return self.folder / "plans"

    @property
    def local(self) -> Path:
        return self.folder / "local"

    @property
    def machines(self) -> Path:
        return Folders(self.local).machines

    @property
    def source(self) -> Path:
        return self.folder / "source"

    @property
    def break_glass(self) -> Path:
        return self.folder / "safe" / "break-glass"

    def last_words(self) -> list[str]:
        """Return the end of each console in the cloud: a machine that boots and does not answer says why there."""
        ends = {path.parent.name: path.read_bytes()[-CONSOLE_BYTES:] for path in self.machines.glob("*/console.log")}
        return [f"the console of {name} ends with:\n{end.decode(errors='replace')}" for name, end in ends.items()]

    def fresh_checkout(self) -> None:
        """Lay out a checkout as a clone would: tracked and new files, nothing that git ignores."""
        if self.checkout.exists():
            shutil.rmtree(self.checkout)
        names = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=CHECKOUT,
            check=True,
            capture_output=True,
        ).stdout.decode()
        for name in filter(None, names.split("\0")):
            if (CHECKOUT / name).is_file():
                target = self.checkout / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(CHECKOUT / name, target)
        (self.checkout / ".venv").symlink_to((CHECKOUT / ".venv").resolve())

    def load_environment(self, extra: Mapping[str, str]) -> None:
        """Do what `eval "$(bin/dr env)"` does in a shell."""
        base = {**os.environ, "LIFEBOAT_LOCAL": str(self.local), "LIFEBOAT_PLANS": str(self.plans), **extra}
        for name in ("PULUMI_HOME", "PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"):
            if name not in extra:
                base.pop(name, None)
        self.environment = base
        self.environment = base | json.loads(self.run("bin/dr", "env", "--json"))

    def run(self, *command: str, timeout: float = 900, stdin: str | None = None, codes: Collection[int] = (0,)) -> str:
        """Run a command in the checkout and return its stdout; `CommandFailed` unless its exit code is in `codes`."""
        result = subprocess.run(
            command,
            cwd=self.checkout,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            **({"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}),
        )
        if result.returncode not in codes:
            errors = [line for line in result.stdout.splitlines() if '"severity":"error"' in line]  # Pulumi's events
            said = "\n".join([*errors, result.stdout[-6000:], result.stderr[-6000:], *self.last_words()]).strip()
            raise CommandFailed(f"`{' '.join(command)}` ended with {result.returncode}:\n{said}")
        return result.stdout

    def dr(self, *arguments: str, timeout: float = 900, codes: Collection[int] = (0,)) -> str:
        return self.run("bin/dr", *arguments, timeout=timeout, codes=codes)

    def dr_json(self, *arguments: str, timeout: float = 900, codes: Collection[int] = (0,)) -> Any:
        return json.loads(self.dr(*arguments, "--json", timeout=timeout, codes=codes))

    def pulumi_up(self, stack: str, *arguments: str) -> int:
        """Bring a stack up and return the number of resources that changed."""
        events = self.run("pulumi", "up", "--yes", "--json", "--skip-preview", "--stack", stack, *arguments)
        summaries = [
            event["summaryEvent"] for line in events.splitlines() if "summaryEvent" in (event := json.loads(line))
        ]
        return changes(summaries[-1]["resourceChanges"])

    def pulumi_preview(self, stack: str) -> int:
        """Preview a stack and return the number of resources that would change."""
        return changes(json.loads(self.run("pulumi", "preview", "--json", "--stack", stack))["changeSummary"])


def changes(summary: Mapping[str, int]) -> int:
    """Return how many resources a change summary of Pulumi touches."""
    return sum(count for kind, count in summary.items() if kind not in {"same", "read"})


def free_ports(count: int) -> Sequence[int]:
    """Return loopback ports that are free now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()
