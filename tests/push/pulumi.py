"""A Pulumi project with one protected server and nothing of Azure: the real provider, a real sshd, a program of three
resources. It is what `pulumi up` of the site stack does to a server, without its networks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dr.local.environment import environment
from dr.local.tools import checkout
from dr.push.package import current_package
from dr.target.cache import cache
from dr.target.choice import LOCAL
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders
from tests.push.rig import Server, package

PROGRAM = f'''
import os, sys
sys.path.insert(0, os.environ["CHECKOUT"])
import pulumi
from pathlib import Path
from dr import compile as compiler
from dr.schema import load
from stacks.resources import CertificateAuthority, Protection, SiteServers

site = compiler.site(load(Path(os.environ["LIFEBOAT_PLANS"])), "{LOCAL_SUBSCRIPTION}")
authority = CertificateAuthority(
    site.certificate_authority, authority=site.certificate_authority, site=site.site,
    subscription="{LOCAL_SUBSCRIPTION}", opts=pulumi.ResourceOptions(),
)
after = pulumi.ResourceOptions(depends_on=[authority])
servers = SiteServers(site.site, blueprint=site, subscription="{LOCAL_SUBSCRIPTION}", opts=after)
for each in site.protections:
    Protection(
        each.server, blueprint=site, protection=each, subscription="{LOCAL_SUBSCRIPTION}",
        opts=pulumi.ResourceOptions(depends_on=[servers]),
    )
'''


@dataclass(frozen=True)
class Project:
    """The project's folder and the environment in which `pulumi` runs on it."""

    folder: Path
    variables: Mapping[str, str]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `pulumi` in a session of its own; stdout has both of its streams."""
        return subprocess.Popen(
            ["pulumi", *arguments, "--stack", "one", "--non-interactive", "--color", "never"],
            cwd=self.folder,
            env={**os.environ, **self.variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run `pulumi` to its end; return exit code and what it said."""
        with self.start(*arguments) as process:
            said, _ = process.communicate()
        return process.returncode, said

    def up(self) -> tuple[int, str]:
        return self.run("up", "--yes", "--skip-preview")

    def deployment(self) -> dict[str, Any]:
        code, said = self.run("stack", "export", "--show-secrets")
        assert code == 0, said
        found: dict[str, Any] = json.loads(said)["deployment"]
        return found

    def outputs(self) -> dict[str, Any] | None:
        """Return the outputs of the protection as the state holds them."""
        for each in self.deployment().get("resources", ()):
            if each["type"] == "dr:index:Protection":
                return {**each["outputs"], "initErrors": each.get("initErrors", [])}
        return None


@contextmanager
def project(folder: Path, server: Server, ssh: Mapping[str, Any], variables: Mapping[str, str]) -> Iterator[Project]:
    """Make the project with `server` as its only one, reached as `ssh` says beyond address, port and host key."""
    folder.mkdir()
    (folder / "program").mkdir()
    (folder / "program" / "__main__.py").write_text(PROGRAM)
    text = (checkout() / "Pulumi.yaml").read_text()
    (folder / "Pulumi.yaml").write_text(text.replace("main: stacks", "main: program"))
    for name in ("bin", "dr", "stacks", ".venv"):
        (folder / name).symlink_to(checkout() / name)
    plans, folders = folder / "plans", Folders(folder / "local")
    shutil.copytree(checkout() / "plans", plans)
    (plans / "plans.yaml").unlink()
    declare(plans, server, ssh)
    folders.envelope.parent.mkdir(parents=True)
    folders.envelope.write_text("break glass\n")
    folders.state.mkdir(parents=True)
    base = {**os.environ, "LIFEBOAT_PLANS": str(plans)}
    chosen = {**base, **environment(LOCAL, folders, base), "CHECKOUT": str(checkout()), **variables}
    chosen["LIFEBOAT_CACHE"] = str(small_agent_cache(folder / "cache"))
    made = Project(folder, chosen)
    code, said = made.run("stack", "init")
    assert code == 0, said
    yield made


def small_agent_cache(folder: Path) -> Path:
    """Make a cache like this machine's in which the agent's package is the small one: the rig has no tracefs."""
    folder.mkdir()
    for each in cache().iterdir():
        if each.name != "agent-packages":
            (folder / each.name).symlink_to(each)
    real = current_package()
    (folder / "agent-packages").mkdir()
    package(folder / "agent-packages" / real.name, "1")
    return folder


def declare(plans: Path, server: Server, ssh: Mapping[str, Any], **changes: Any) -> None:
    """Write the declaration of the one server."""
    declared = server.protection
    login = {"address": declared.ssh.address, "port": declared.ssh.port, "hostKey": declared.ssh.host_key, **ssh}
    document = {
        "kind": "Server",
        "name": declared.server,
        "ssh": login,
        "policy": "standard",
        "disks": [{"name": disk.name, "device": disk.device} for disk in declared.disks],
        "target": {"size": "Standard_D2s_v5", "subnet": "shop", "address": "10.20.1.10", "firmware": "bios", **changes},
    }
    (plans / "servers.yaml").write_text(json.dumps(document))
