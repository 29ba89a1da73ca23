"""A small site that may burn: real Pulumi, Azurite, `dr serve`, sshd and agent; the disk is a loop device.

The server that Pulumi sees over SSH is the rig's world; the agent that replicates runs beside it, with the certificate
that this world's installation got. A fresh clone is a copy of this checkout.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dr.certificates.site import SiteCertificates
from dr.compile import names
from dr.config_server.client import SiteClient
from dr.local import services
from dr.local.tools import checkout
from dr.push import layout
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders
from dr.target.stores import open_store
from tests.agent.protected import MIB, Protected, wait_for
from tests.agent.whole_site import SERVER, Files
from tests.push.enrolled import enrol
from tests.push.pulumi import declare, small_agent_cache
from tests.push.rig import Server, free_port, running_server
from tests.stacks.projects import Estate, local_estate

ACCOUNT = names.storage_account("harbour", LOCAL_SUBSCRIPTION)
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "Pulumi.*.yaml", ".hypothesis")


@dataclass
class Burning:
    """The estate; `checkout` is the clone that commands run in."""

    estate: Estate
    server: Server
    agent: Protected
    checkout: Path
    variables: Mapping[str, str]
    clones: int = 0

    @property
    def folders(self) -> Folders:
        return self.estate.folders

    @property
    def here(self) -> Estate:
        """The estate as the present clone sees it."""
        return Estate(self.checkout, self.folders, self.variables)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PULUMI", "LIFEBOAT"))}
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "dr", *arguments],
            cwd=self.checkout,
            env={**inherited, **self.variables, "PYTHONPATH": str(self.checkout)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def dr(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Run a command with --json; return its exit code and what it printed."""
        with self.start(*arguments, "--json") as process:
            said, errors = process.communicate()
        assert said, errors
        document: dict[str, Any] = json.loads(said)
        return process.returncode, document

    def burn(self, *, state: bool) -> None:
        """Lose the site's machine: process, folder, plugins, checkout; with `state` the stacks' state, too."""
        said = json.loads((self.folders.site / "serve.json").read_text())
        os.kill(said["pid"], signal.SIGKILL)
        for folder in (self.folders.site, self.folders.root / "pulumi", self.checkout):
            shutil.rmtree(folder)
        if state:
            shutil.rmtree(self.folders.state)
        self.clone()

    def clone(self) -> None:
        self.clones += 1
        self.checkout = self.folders.root.parent / f"clone{self.clones}"
        shutil.copytree(checkout(), self.checkout, ignore=LEFT_OUT, symlinks=True)
        (self.checkout / ".venv").symlink_to(checkout() / ".venv")

    def cut(self) -> str:
        """Have a recovery point made and return its id."""
        client = SiteClient(self.folders.site)
        answer = client.wait_cut("shop1", client.request_cut("shop1"))
        assert answer["state"] == "point", answer
        return str(answer["point"])


class Home:
    """What the agent needs of the site; its replica is read from the vault."""

    def __init__(self, estate: Estate, ports: tuple[int, int], files: Files) -> None:
        self.files, self._estate = files, estate
        self.configuration_port, self.process_port = ports

    def replica(self, disk: str, size: int, snapshot: str | None = None, server: str = SERVER) -> bytes:
        blob = names.replica_blob("shop1", disk)
        with closing(open_store(LOCAL_SUBSCRIPTION, ACCOUNT, self._estate.folders)) as store:
            return b"".join(store.read(names.REPLICAS, blob, at, min(MIB, size - at)) for at in range(0, size, MIB))


@contextmanager
def burning_site(root: Path) -> Iterator[Burning]:
    """Make the site and its vault, protect the server, and let its agent replicate."""
    with ExitStack() as ends:
        (root / "server").mkdir()
        server = ends.enter_context(running_server(root / "server"))
        ports = free_port(), free_port()
        declared = _declared(root / "declared", server, ports)
        estate = ends.enter_context(local_estate(root, declared))
        cache = small_agent_cache(root / "cache")
        variables = {**estate.variables, "LIFEBOAT_CACHE": str(cache)}
        site = Burning(estate, server, None, root, variables)  # type: ignore[arg-type]  # the agent follows
        site.clone()
        services.up_site(estate.folders, lambda line: None)
        for stack in ("vault-local", "site-local"):
            shutil.copy(estate.project / f"Pulumi.{stack}.yaml", site.checkout)
            done = site.here.pulumi(stack, "up", "--yes", "--skip-preview")
            assert done.returncode == 0, done.stdout[-4000:] + done.stderr
        enrol(server.shell, SiteCertificates(estate.folders.site))
        done = site.here.pulumi("site-local", "up", "--refresh", "--yes", "--skip-preview")
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr
        site.agent = Protected(root / "agent", Home(estate, ports, _files(root / "keys", site)))
        ends.callback(site.agent.close)
        site.agent.changes = {"site": "harbour"}
        disk = site.agent.disk("os", 16 * MIB)
        disk.write(0, os.urandom(4 * MIB))
        site.agent.start()
        site.agent.wait_drained(120)
        yield site


def _declared(folder: Path, server: Server, ports: tuple[int, int]) -> Path:
    shutil.copytree(checkout() / "plans", folder)
    (folder / "plans.yaml").unlink()
    text = (folder / "site.yaml").read_text()
    for before, after in (("port: 8443", f"port: {ports[0]}"), ("port: 9443", f"port: {ports[1]}")):
        assert before in text
        text = text.replace(before, after)
    (folder / "site.yaml").write_text(text)
    ssh = server.protection.ssh
    declare(folder, server, {"user": "root", "keyFile": ssh.key_file})
    (folder / "plans.yaml").write_text("kind: RecoveryPlan\nname: shop\ngroups:\n  - servers: [shop1]\n")
    return folder


def _files(folder: Path, site: Burning) -> Files:
    """Copy the certificate of the server's agent out of its world."""
    folder.mkdir(mode=0o700)
    for path, name in ((layout.CERTIFICATE, "agent.crt"), (layout.KEY, "agent.key")):
        (folder / name).write_text(site.server.shell(f"cat {path}"))
        (folder / name).chmod(0o600)
    ca = folder / "ca.crt"
    shutil.copy(site.folders.site / "tls/ca.crt", ca)
    return Files(ca, (ca, ca), {SERVER: (folder / "agent.crt", folder / "agent.key")})


def wait_kept(site: Burning, serial: str) -> None:
    """Wait until the vault keeps a revocation."""
    with closing(open_store(LOCAL_SUBSCRIPTION, ACCOUNT, site.folders)) as store:
        wait_for("the revocation in the vault", lambda: f"revoked/{serial}.json" in set(store.list(names.REGISTER)))
