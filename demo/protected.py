"""A protected server seen from outside: its agent's status, its site's processes, points with a picture of our own."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from demo.declare import write_declaration
from demo.stage import CommandFailed, Stage, free_ports
from dr.config_server.client import SiteClient
from dr.errors import LifeboatError
from tools.machines.drive import copy_layer
from tools.machines.source import SourceMachine

INITIAL_SECONDS = 900
CUT_ATTEMPTS = 5
Status = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ProtectedServer:
    """The server `name` of the stage's declaration, played by `source`."""

    stage: Stage
    source: SourceMachine
    name: str

    def declare(self) -> None:
        """Write this run's declaration and choose target local, as a person would in a new checkout."""
        https, data = free_ports(2)
        write_declaration(self.stage.checkout / "plans", self.stage.plans, self.source, https, data)
        self.stage.load_environment({"LIFEBOAT_SSH_KEY": str(self.source.key_file)})

    @property
    def site(self) -> SiteClient:
        """The site as its operator asks it."""
        return SiteClient(self.stage.local / "site")

    def agent(self) -> Status:
        """Return what the agent told the site last; empty before the first time, mode "unknown" without a site."""
        try:
            status = self.site.status()
        except LifeboatError as error:
            return {"mode": "unknown", "error": str(error)}
        return dict(status["servers"].get(self.name, {}).get("agent") or {})

    def wait_for_delta(self, look: Callable[[Status], None] = lambda status: None) -> Status:
        """Wait until the replica is complete; `look` sees every status on the way. `CommandFailed` after 15 min."""
        deadline = time.monotonic() + INITIAL_SECONDS
        while time.monotonic() < deadline:
            status = self.agent()
            if status.get("mode") == "delta":
                return status
            look(status)
            time.sleep(1)
        raise CommandFailed(f"the replica did not become complete; the agent says {self.agent()}")

    def pictured_point(self, pictures: Sequence[Path], say: Callable[[str], None]) -> str:
        """Have a recovery point made, and each frozen disk copied to its picture by QEMU; return the point's id."""
        for attempt in range(CUT_ATTEMPTS):
            request = self.site.request_cut(self.name, barrier=True)
            answer = self.site.wait_cut(self.name, request, until={"frozen", "skipped"}, seconds=120)
            if answer["state"] == "frozen":
                layers = self.source.freeze_layers()
                self.site.release(self.name, request)
                for layer, picture in zip(layers, pictures, strict=True):
                    copy_layer(layer, picture)
                answer = self.site.wait_cut(self.name, request, until={"point", "skipped"}, seconds=180)
                if answer["state"] == "point":
                    return str(answer["point"])
            say(f"attempt {attempt + 1} was skipped: {answer['reason']}")
        raise CommandFailed("no recovery point could be made")

    def site_processes(self) -> list[psutil.Process]:
        """Return the processes of the site's servers. `CommandFailed` when there is none."""
        folder = str(self.stage.folder)
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if "serve" in process.cmdline() and folder in str(process.environ()):
                    found.append(process)
        if not found:
            raise CommandFailed("the site's servers do not run")
        return found
