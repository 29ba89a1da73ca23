"""The local target as a whole: bring it up, say how it is, take it down.

    cloud half    folders, break-glass secret, Azurite, the stand-in as a plugin, the stacks, retention
    site half     `dr serve` for the site's folder

Everything is idempotent and can be interrupted: what is there already is left as it is.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dr.errors import PrerequisiteMissing, RunFailed
from dr.local.azurite import Azurite
from dr.local.environment import environment, pulumi_home
from dr.local.foundation import make_envelope, make_folders
from dr.local.machines import machines
from dr.local.plugins import install_standin
from dr.local.processes import ProcessIdentity, start_recorded_daemon, tail
from dr.local.stacks import binding_of, prepare_stack, stack_names
from dr.local.tools import checkout
from dr.model import Declaration
from dr.target import access
from dr.target.choice import LOCAL
from dr.target.folders import Folders

SETTLE_SECONDS = 0.5
SERVE_STOP_SECONDS = 30.0
RETENTION_STOP_SECONDS = 30.0
RETENTION_DAEMON = "retention-daemon.json"
POWERDOWN_SECONDS = 30.0
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Part:
    """One process of the local target; `state` is "running", "stopped" or "gone" (it ended by itself)."""

    name: str
    state: str
    pid: int | None
    detail: str

    def as_dict(self) -> dict[str, object]:
        return {"name": self.name, "state": self.state, "pid": self.pid, "detail": self.detail}


@contextmanager
def one_at_a_time(folders: Folders, say: Say) -> Iterator[None]:
    """Let one `up` or `down` change this local target at a time; a second one says so and waits."""
    folders.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (folders.root / ".changing.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another `dr local up` or `down` is at work; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def up_cloud(folders: Folders, declaration: Declaration, say: Say, *, project: Path | None = None) -> None:
    """Bring up what plays Azure, with the stacks of `declaration` in `project` (default: this checkout)."""
    make_folders(folders)
    chosen = _adopt_environment(folders)
    if make_envelope(folders):
        say(f"break-glass secret made: {folders.envelope}; keep a copy where the site's fire does not reach")
    azurite = Azurite(folders)
    started = azurite.start()
    say(f"storage {'started' if started else 'runs'}: {azurite.endpoint()}")
    if install_standin(pulumi_home(LOCAL, folders)):
        say("plugin azure-native (local stand-in) installed")
    folder, binding = project or checkout(), binding_of(LOCAL, declaration)
    for stack in stack_names(declaration, LOCAL):
        made = prepare_stack(stack, project=folder, environment=chosen, binding=binding, folders=folders)
        say(f"stack {stack} {'made' if made else 'is there'}")
    _up_retention(folders, chosen, say)


def up_site(folders: Folders, say: Say) -> None:
    """Bring up the site's servers (`dr serve`), which wait for `pulumi up -s site-local`."""
    make_folders(folders)
    chosen = _adopt_environment(folders)
    identity = _serve_identity(folders)
    if identity is not None and identity.alive():
        say(f"dr serve runs (pid {identity.pid})")
        return
    _start(["serve"], _serve_file(folders), folders.site, _serve_log(folders), chosen)
    say(f"dr serve started (pid {_started(_serve_file(folders)).pid})")


def _up_retention(folders: Folders, chosen: Mapping[str, str], say: Say) -> None:
    """Bring up the one process that deletes history; it plays a job in Azure, and its login an identity there."""
    for account in Azurite(folders).accounts():
        access.grant_retention(account, folders, datetime.now(UTC))
    record = folders.cloud / RETENTION_DAEMON
    if record.exists() and _started(record).alive():
        say(f"retention runs (pid {_started(record).pid})")
        return
    _start(["retention", "--loop"], record, folders.cloud, folders.cloud / "retention.log", chosen)
    say(f"retention started (pid {_started(record).pid})")


def _start(arguments: list[str], record: Path, folder: Path, log: Path, chosen: Mapping[str, str]) -> None:
    """Start `dr ARGUMENTS` as a daemon. `RunFailed` with its last words when it ends at once."""
    python = checkout() / ".venv" / "bin" / "python"
    command = [str(python) if python.exists() else sys.executable, "-P", "-m", "dr", *arguments]
    paths = [str(checkout()), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Each of these processes has its own login at the vault: the break-glass secret is none of their business.
    variables = {name: value for name, value in {**os.environ, **chosen}.items() if not name.startswith("PULUMI_")}
    variables["PYTHONPATH"] = os.pathsep.join(paths)
    identity = start_recorded_daemon(command, record=record, folder=folder, log=log, environment=variables)
    if identity.gone_within(SETTLE_SECONDS):
        record.unlink(missing_ok=True)
        raise RunFailed(f"dr {arguments[0]} ended at once; its last words: {tail(log)}", code=f"{arguments[0]}-failed")


def _started(record: Path) -> ProcessIdentity:
    """Return the process that a record names. `PrerequisiteMissing` for a record that cannot be read."""
    try:
        return ProcessIdentity.from_dict(json.loads(record.read_text()))
    except (ValueError, KeyError) as error:
        raise PrerequisiteMissing(
            f"{record} is not readable", remedy="end the process that it named by hand and remove the file"
        ) from error


def status(folders: Folders) -> Iterator[Part]:
    """Yield every process of the local target, the recovered VMs too."""
    azurite = Azurite(folders)
    running = azurite.identity()
    endpoint = ""
    if folders.accounts.exists():
        endpoint = azurite.endpoint()
    yield _part("azurite", running, (folders.cloud / "azurite.json").exists(), endpoint)
    record = folders.cloud / RETENTION_DAEMON
    retention = _started(record) if record.exists() else None
    alive = retention if retention and retention.alive() else None
    yield _part("retention", alive, retention is not None, _retention_says(azurite))
    serve = _serve_identity(folders)
    live = serve if serve is not None and serve.alive() else None
    yield _part("serve", live, serve is not None, _serve_says(folders) if live else "")
    for machine in machines(folders.machines):
        alive = machine.identity if machine.alive() else None
        ports = ", ".join(f"{guest} at 127.0.0.1:{host}" for guest, host in sorted(machine.ports.items()))
        yield _part(f"vm {machine.spec.name}", alive, True, f"{machine.spec.address}; {ports or 'no open port'}")


def down(folders: Folders, say: Say, *, stop_machines: bool) -> None:
    """Stop the processes gently; data stays. Recovered VMs are production: they stay unless `stop_machines`."""
    serve = _serve_identity(folders)
    if serve is not None and serve.alive():
        gentle = serve.end(grace_seconds=SERVE_STOP_SECONDS)
        say("dr serve stopped" if gentle else "dr serve did not stop by itself and was killed; its spool survives that")
    _serve_file(folders).unlink(missing_ok=True)
    running = [machine for machine in machines(folders.machines) if machine.alive()]
    if running and stop_machines:
        with ThreadPoolExecutor(len(running)) as pool:  # one that does not heed its power button keeps no other waiting
            list(pool.map(lambda machine: machine.stop(powerdown_seconds=POWERDOWN_SECONDS), running))
    for machine in running:
        if stop_machines:
            say(f"VM {machine.spec.name} stopped")
        else:
            say(f"VM {machine.spec.name} is left running (pid {machine.identity.pid}); --machines stops it")
    record = folders.cloud / RETENTION_DAEMON
    if record.exists():
        _started(record).end(grace_seconds=RETENTION_STOP_SECONDS)
        record.unlink()
        say("retention stopped")
    if folders.cloud.exists() and Azurite(folders).stop():
        say("storage stopped")
    say(f"left: the data in {folders.root}")


def _part(name: str, running: ProcessIdentity | None, expected: bool, detail: str) -> Part:
    state = "running" if running else "gone" if expected else "stopped"
    return Part(name, state, running.pid if running else None, detail)


def _adopt_environment(folders: Folders) -> Mapping[str, str]:
    """Make the target's environment this process's own, as `eval "$(dr env)"` would have."""
    chosen = environment(LOCAL, folders)
    os.environ.update(chosen)
    return chosen


def _serve_identity(folders: Folders) -> ProcessIdentity | None:
    """Return the process that serves the site, else the one that was started for it."""
    try:
        said = json.loads((folders.site / "serve.json").read_text())
        serving = ProcessIdentity(int(said["pid"]), float(said["started_at"]))
    except (FileNotFoundError, ValueError, KeyError):
        serving = None
    if serving is not None and serving.alive():
        return serving  # started by hand, perhaps: only one can serve a site, and this one does
    return _started(_serve_file(folders)) if _serve_file(folders).exists() else None


def _serve_says(folders: Folders) -> str:
    """Return the state that the servers name themselves, with its cause and remedy if it is not the good one."""
    try:
        said = json.loads((folders.site / "serve.json").read_text())
    except (FileNotFoundError, ValueError):
        return ""
    parts = [said.get("state"), said.get("cause"), said.get("remedy") and f"remedy: {said['remedy']}"]
    return "; ".join(part for part in parts if part)


def _retention_says(azurite: Azurite) -> str:
    return "" if azurite.accounts() else "waits for `pulumi up` of the vault stack: there is no storage account yet"


def _serve_file(folders: Folders) -> Path:
    # `serve.json` beside it is what the servers say about themselves.
    return folders.site / "daemon.json"


def _serve_log(folders: Folders) -> Path:
    return folders.site / "serve.log"
