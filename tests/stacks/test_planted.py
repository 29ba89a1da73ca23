"""A secret planted in every place that takes one; then a search through all that is written down or can be looked at.

The vault and the site by the real engine with its own log at its loudest, the real key store, `dr serve`, a real sshd
behind a jump host. What is planted: break-glass passphrase, SSH key, the password of SSH (by file) and of sudo (by the
key store), the VPN's shared key, a token. What is made: the storage account's key, the keys of root, issuing authority,
servers, operator and agent, the spool's key. Where is looked: state, history, backups, logs, what commands say, command
lines and environments of all processes, core files. `tests/end_to_end/test_search.py` shows that the search finds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dr.compile import names
from dr.local import services
from dr.local.tools import checkout
from dr.push import layout
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders
from dr.target.secrets import FolderKeyStore
from tests.config_server.rig import Caller, free_port
from tests.end_to_end.secrets import ANY_PRIVATE_KEY, Processes, Search, cores, private_part
from tests.push.enrolled import REQUEST
from tests.push.pulumi import declare, small_agent_cache
from tests.push.rig import PASSWORD, Server, running_server
from tests.stacks.projects import Estate, local_estate

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

VPN_KEY = "planted-vpn-key-7Qm2"
BREAK_GLASS = "planted-break-glass-4Xw9-and-long-enough"
LOUD = ("--logtostderr", "-v=9", "--logflow")
ACCOUNT = names.storage_account("harbour", LOCAL_SUBSCRIPTION)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("planted")


@pytest.fixture(scope="module")
def ours(root: Path) -> Iterator[Processes]:
    gathering = Processes(str(root))
    yield gathering
    gathering.stop()


@pytest.fixture(scope="module")
def on_the_server() -> Iterator[Processes]:
    """What runs behind the sshd, on this same machine."""
    gathering = Processes(layout.CONFIG_FOLDER)
    yield gathering
    gathering.stop()


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[Server]:
    folder = root / "server"
    folder.mkdir()
    with running_server(folder) as running:
        yield running


@pytest.fixture(scope="module")
def estate(root: Path, ours: Processes, on_the_server: Processes, server: Server) -> Iterator[Estate]:
    written, folders, safe = root / "written", Folders(root / "local"), root / "safe"
    shutil.copytree(checkout() / "plans", written)
    (written / "plans.yaml").unlink()
    safe.mkdir()
    write_secret(safe / "ssh-password", PASSWORD + "\n")
    folders.envelope.parent.mkdir(parents=True)
    write_secret(folders.envelope, BREAK_GLASS + "\n")
    edit_site(written / "site.yaml")
    declare(written, server, login(server, safe / "ssh-password"))
    cache = small_agent_cache(root / "cache")
    with local_estate(root, written) as made:
        services.up_site(folders, lambda line: None)
        yield replace(made, variables={**made.variables, "LIFEBOAT_CACHE": str(cache)})


def write_secret(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def login(server: Server, password: Path) -> dict[str, Any]:
    """By password through a jump host, whose user logs in by a key; then sudo, which asks for the password again."""
    ssh = server.protection.ssh
    jump = {"address": "localhost", "port": ssh.port, "user": "free", "keyFile": ssh.key_file, "hostKey": ssh.host_key}
    secrets = {"password": {"file": str(password)}, "sudoPassword": {"keyStore": "shop1-sudo"}}
    return {"user": "word", "jump": jump, **secrets}


def edit_site(path: Path) -> None:
    gateway = {
        "prefix": "10.20.254.0/27",
        "vpn": {"peerAddress": "198.51.100.7", "sitePrefixes": ["192.0.2.0/24"], "sharedKey": {"keyStore": "vpn-key"}},
    }
    text = path.read_text().replace("port: 8443", f"port: {free_port()}").replace("port: 9443", f"port: {free_port()}")
    path.write_text(f"{text}\ngateway: {json.dumps(gateway)}\n")


def said(root: Path, name: str, *command: str, estate: Estate, stdin: str = "") -> None:
    """Run a command as a person does; all that it says goes to a file, which is searched with the others."""
    log = root / "said" / name
    log.parent.mkdir(exist_ok=True)
    with log.open("wb") as file:
        done = subprocess.run(
            command,
            cwd=estate.project,
            env={**os.environ, **estate.variables},
            input=stdin.encode(),
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    assert done.returncode == 0, log.read_text(errors="replace")[-4000:]


@pytest.fixture(scope="module")
def used(root: Path, estate: Estate, server: Server) -> Estate:
    """Every secret used: both stacks up and previewed, a refresh, the token exchanged at `dr serve`, a removal."""
    dr = (sys.executable, "-P", "-m", "dr")
    os.environ["PYTHONPATH"] = str(checkout())
    for entry, secret in (("shop1-sudo", PASSWORD), ("vpn-key", VPN_KEY)):
        said(root, f"put-{entry}", *dr, "secret", "put", entry, estate=estate, stdin=secret + "\n")
    for stack in ("vault-local", "site-local"):
        up = ("pulumi", "up", "--yes", "--skip-preview", "--stack", stack, "--non-interactive")
        said(root, f"up-{stack}", *up, *LOUD, estate=estate)
    exchange(estate, server)
    said(root, "events", "pulumi", "preview", "--json", "--stack", "site-local", estate=estate)
    said(root, "preview", "pulumi", "preview", "--diff", "--stack", "site-local", estate=estate)
    said(
        root, "refresh", "pulumi", "up", "--yes", "--refresh", "--skip-preview", "--stack", "site-local", estate=estate
    )
    said(root, "export", "pulumi", "stack", "export", "--stack", "site-local", estate=estate)
    said(root, "history", "pulumi", "stack", "history", "--json", "--stack", "site-local", estate=estate)
    said(root, "token", *dr, "agent", "token", "shop1", "--output", str(root / "safe/token.pem"), estate=estate)
    said(root, "revoke", *dr, "revoke", "shop1", "--reason", "the end of the test", estate=estate)
    return estate


def exchange(estate: Estate, server: Server) -> None:
    """Be the agent: show the token that `up` brought to the real configuration server, and remove it."""
    site = estate.folders.site
    token = site.parent / "shown.crt"
    write_secret(token, server.shell(f"cat {layout.TOKEN}"))
    shutil.copy(token, token.with_suffix(".key"))
    port = json.loads((site / "config.json").read_text())["configuration_server"]["port"]
    (site.parent / "tls").symlink_to(site / "tls")
    status, answer = Caller(site.parent, "shown", port)("POST", "/v1/certificates", {"request": server.shell(REQUEST)})
    assert status == 200, answer
    given = f"printf '%s' '{answer['certificate']}' >{layout.CERTIFICATE}"
    server.shell(f"{given} && chmod 644 {layout.CERTIFICATE} && rm {layout.TOKEN}")
    for path in (token, token.with_suffix(".key"), site.parent / "tls"):
        path.unlink()


def secrets_of(root: Path, estate: Estate, server: Server) -> dict[str, bytes]:
    keys, site = FolderKeyStore(estate.folders.key_store, BREAK_GLASS), estate.folders.site
    return {
        "the break-glass passphrase": BREAK_GLASS.encode(),
        "the SSH key": private_part((root / "server/user").read_bytes()),
        "the password": PASSWORD.encode(),
        "the password's end": PASSWORD[-8:].encode(),
        "the VPN's key": VPN_KEY.encode(),
        "the token": private_part((root / "safe/token.pem").read_bytes()),
        "the storage account's key": keys.get(f"storage-{ACCOUNT}"),
        "the root authority's key": private_part(keys.get("ca-harbour")),
        "the issuing authority's key": private_part((site / "tls/issuing.pem").read_bytes()),
        "the agent's key": private_part(server.shell(f"cat {layout.KEY}").encode()),
        "the operator's key": private_part((site / "operator/operator.key").read_bytes()),
        "the servers' key": private_part((site / "tls/server.key").read_bytes()),
        "the spool's key": (site / "keys/spool.key").read_bytes(),
    }


def test_planted_secrets_are_where_they_belong_and_nowhere_else(root: Path, used: Estate, server: Server) -> None:
    site, safe = used.folders.site, root / "safe"
    keys = {
        "the issuing authority's key": site / "tls/issuing.pem",
        "the operator's key": site / "operator/operator.key",
        "the servers' key": site / "tls/server.key",
        "the token": safe / "token.pem",
    }
    holders = {
        **keys,
        "the break-glass passphrase": used.folders.envelope,
        "the password": safe / "ssh-password",
        "the password's end": safe / "ssh-password",
        "the spool's key": site / "keys/spool.key",
    }
    belongs = {f"{name} in {path}" for name, path in holders.items()}
    belongs |= {f"{name} in {path}" for path in keys.values() for name in ANY_PRIVATE_KEY}
    # The engine's own log at its loudest shows the inputs that it was given as secrets: docs/promises.md says so.
    belongs.add(f"the VPN's key in {root / 'said/up-site-local'}")
    search = Search({**ANY_PRIVATE_KEY, **secrets_of(root, used, server)})
    assert set(search.files(root, {root / "server", root / "cache"})) == belongs
    assert (root / "said/up-site-local").stat().st_size > 1 << 19, "the engine was loud"
    assert list((used.folders.state / ".pulumi/history").rglob("*.json"))
    assert list((used.folders.state / ".pulumi/backups").rglob("*.json*"))
    assert cores(root, {root / "cache"}) == []


def test_no_process_shows_one(
    root: Path, used: Estate, server: Server, ours: Processes, on_the_server: Processes
) -> None:
    known = Search(secrets_of(root, used, server))
    search = Search({**ANY_PRIVATE_KEY, **secrets_of(root, used, server)})
    lines = b"\n".join(ours.command_lines)
    assert b"pulumi\0up" in lines
    assert b"dr.provider" in lines
    assert search.found(lines) == set()
    # What plays Azure gets its accounts with their keys by its environment: it is Azure's side, and no file.
    environments = [each for each in ours.environments if b"AZURITE_ACCOUNTS=" not in each]
    assert b"PULUMI_CONFIG_PASSPHRASE_FILE=" in b"\n".join(environments)
    assert search.found(b"\n".join(environments)) == set()
    behind = b"\n".join(on_the_server.command_lines)
    assert layout.KEY.encode() in behind
    assert known.found(behind) == set()
    assert known.found(b"\n".join(on_the_server.environments)) == set()


def test_the_server_keeps_the_agents_key_and_nothing_else(root: Path, used: Estate, server: Server) -> None:
    known = secrets_of(root, used, server)
    text = "find /etc /run /var /root /home /usr/local -xdev -type f -exec cat {} + 2>/dev/null | tr -cd '[:print:]\\n'"
    everything = server.shell(text)
    assert Search(known).found(everything.encode()) == {"the agent's key"}
