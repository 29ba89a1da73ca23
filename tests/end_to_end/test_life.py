"""A life of an estate by plain `pulumi`: preview, one value, failover, a machine lost, destroy, and the end of it.

The tests follow each other on one estate, in the order of this file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo import compare
from demo.stage import CommandFailed
from dr.compile import names
from dr.local import machines
from dr.push.layout import CONFIG_FOLDER, KEY, PROGRAM_FOLDER, UNIT, UNIT_FILE
from tests.end_to_end.estate import ACCOUNT, SERVER, SHOP_PORT, SITE, Estate, raised
from tests.end_to_end.secrets import Processes, Search, private_part
from tools.machines.source import SourceMachine
from tools.machines.traces import traces

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(1500)]

FAILOVER = "failover-shop-local"
STACKS = ("vault-local", "site-local", FAILOVER)


@pytest.fixture(scope="module")
def untouched() -> set[str]:
    """The traces on the server before anything of ours came; filled by `estate`."""
    return set()


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """What has to do with the estate; others run on this machine too."""
    gathering = Processes(str(tmp_path_factory.getbasetemp()))
    yield gathering
    gathering.stop()


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory, untouched: set[str], processes: Processes) -> Iterator[Estate]:
    """A protected server with a recovery point. Points are made on request only, so that a list of blobs stands."""

    def prepare(source: SourceMachine) -> None:
        untouched.update(traces(source))

    with raised(tmp_path_factory.mktemp("life"), prepare) as made:
        change(made, "ReplicationPolicy", lambda policy: policy.update(crashConsistentEvery="1h"))
        made.up("site-local")
        made.server.wait_for_delta()
        made.stage.dr("points", SERVER, "--request")
        yield made


def test_previews_change_nothing(estate: Estate) -> None:
    before = everything(estate)
    assert estate.preview("vault-local") == []
    assert estate.preview("site-local") == []
    would = estate.preview(FAILOVER)
    assert "create VirtualMachine" in would
    assert all(step.startswith("create ") for step in would)
    assert everything(estate) == before


def test_one_value_is_one_change(estate: Estate) -> None:
    change(estate, "Site", lambda site: site["network"]["subnets"][0]["inboundPorts"].append(443))
    assert estate.preview("site-local") == ["update NetworkSecurityGroup"]
    assert estate.up("site-local") == ["update NetworkSecurityGroup"]

    agent = agent_on(estate.source)
    change(estate, "ReplicationPolicy", lambda policy: policy.update(retention="12h"))
    assert sorted(estate.up("site-local")) == ["update Retention", "update SiteServers"]
    settings = json.loads((estate.folders.site / "config.json").read_text())
    assert settings["servers"][SERVER]["retention_seconds"] == 12 * 3600
    assert agent_on(estate.source) == agent, "a policy is no reason to touch the server"
    assert estate.preview("site-local") == []


def test_a_plain_pulumi_up_fails_over(estate: Estate) -> None:
    known = compare.shop_state("127.0.0.1", estate.source.port(SHOP_PORT), upto=1)
    estate.stage.run("pulumi", "config", "set", "dr:sourceMayBeAlive", "acknowledged", "--stack", FAILOVER)
    assert "create VirtualMachine" in estate.up(FAILOVER)
    assert compare.shop_state("127.0.0.1", recovered(estate).ports[SHOP_PORT], upto=1).chain == known.chain
    assert estate.preview(FAILOVER) == []

    machine = recovered(estate)
    change(estate, "Server", lambda server: server["target"]["tags"].update(service="shop-of-the-lighthouse"))
    tagged = {"update NetworkInterface", "update Disk", "update VirtualMachine"}
    assert set(estate.preview(FAILOVER)) == tagged
    assert set(estate.up(FAILOVER)) == tagged
    assert recovered(estate).identity == machine.identity, "a tag is no reason to start anew"


def test_a_machine_killed_by_hand_is_found_and_comes_back(estate: Estate) -> None:
    machine = recovered(estate)
    orders = compare.shop_state("127.0.0.1", machine.ports[SHOP_PORT]).orders
    process = machine.identity.process()
    assert process is not None
    process.kill()
    process.wait(10)

    said = estate.stage.run("pulumi", "refresh", "--yes", "--skip-preview", "--json", "--stack", FAILOVER)
    assert summary(said) == {"delete": 1}
    steps = estate.up(FAILOVER)
    assert "create VirtualMachine" in steps
    assert "create HealthCheck" in steps or "create-replacement HealthCheck" in steps, steps
    again = compare.shop_state("127.0.0.1", recovered(estate).ports[SHOP_PORT])
    assert again.integrity == "ok"
    assert again.orders >= orders, "its disk was kept"
    assert estate.preview(FAILOVER) == []


def test_no_secret_is_seen_anywhere(estate: Estate, processes: Processes) -> None:
    site = estate.folders.site
    secrets = {
        "the break-glass passphrase": estate.passphrase.encode(),
        "the storage account's key": estate.secret(f"storage-{ACCOUNT}"),
        "the root authority's key": private_part(estate.secret(f"ca-{SITE}")),
        "the issuing authority's key": private_part((site / "tls/issuing.pem").read_bytes()),
        "the agent's key": private_part(estate.source.run(f"sudo cat {KEY}").encode()),
        "the operator's key": private_part((site / "operator/operator.key").read_bytes()),
        "the servers' key": private_part((site / "tls/server.key").read_bytes()),
        "the spool's key": (site / "keys/spool.key").read_bytes(),
        "the site's login at the vault": signature(site / "keys/vault.json"),
        "retention's login at the vault": signature(estate.folders.cloud / "retention.json"),
    }
    holders = {
        "the break-glass passphrase": estate.folders.envelope,
        "the issuing authority's key": site / "tls/issuing.pem",
        "the operator's key": site / "operator/operator.key",
        "the servers' key": site / "tls/server.key",
        "the spool's key": site / "keys/spool.key",
        "the site's login at the vault": site / "keys/vault.json",
        "retention's login at the vault": estate.folders.cloud / "retention.json",
    }
    # The server's own disk holds the agent's key, and so do the copies of that disk.
    disks = {estate.stage.source, estate.folders.azurite, estate.folders.disks}
    not_ours = {estate.stage.checkout / ".venv"}
    search = Search(secrets)
    found = set(search.files(estate.stage.folder, disks | not_ours))
    assert found == {f"{name} in {path}" for name, path in holders.items()}, "each where it belongs, and nowhere else"

    lines = b"\n".join(processes.command_lines)
    assert b"pulumi" in lines
    assert b"qemu-system" in lines
    assert search.found(lines) == set()

    server = estate.source.run("ps axwwe -o args; sudo journalctl --no-pager").encode()
    assert b"lifeboat-agent" in server
    assert search.found(server) == set()


def signature(file: Path) -> bytes:
    """Return the secret part of the signature for container `replicas`."""
    signed: str = json.loads(file.read_text())["containers"][names.REPLICAS]
    return signed.rpartition("sig=")[2].encode()


def test_destroy_leaves_the_vault_alone(estate: Estate) -> None:
    before, points = estate.blob_names(), estate.points()
    assert points
    assert "delete VirtualMachine" in estate.destroy(FAILOVER)
    assert not list(machines.machines(estate.folders.machines))
    assert estate.blob_names() == {**before, "runs": set()}
    assert estate.points() == points
    estate.verify("latest")

    with pytest.raises(CommandFailed, match="protect"):
        estate.destroy("vault-local")
    assert estate.points() == points
    assert estate.preview("vault-local") == []


def test_a_server_that_leaves_the_declaration_keeps_its_points_and_nothing_of_ours(
    estate: Estate, untouched: set[str]
) -> None:
    points = estate.points()
    for file in ("servers.yaml", "plans.yaml"):
        (estate.stage.plans / file).unlink()
    assert sorted(estate.up("site-local")) == ["delete Protection", "update Retention", "update SiteServers"]
    assert traces(estate.source) ^ untouched == set()
    assert estate.source.ssh(f"systemctl status {UNIT}").status == 4, "no such unit"
    assert estate.points() == points
    kept = estate.stage.dr_json("points", SERVER)["retention"]
    assert kept["left"] < kept["until"]
    assert estate.stage.dr_json("status")["left"] == {SERVER: kept}
    estate.verify(points[0])
    assert estate.preview("site-local") == []


def change(estate: Estate, kind: str, edit: Callable[[dict[str, Any]], object]) -> None:
    """Edit the one document of a kind in the declaration."""
    edited = 0
    for path in estate.stage.plans.glob("*.yaml"):
        documents = list(yaml.safe_load_all(path.read_text()))
        for document in documents:
            if document["kind"] == kind:
                edit(document)
                edited += 1
        path.write_text(yaml.safe_dump_all(documents, sort_keys=False))
    assert edited == 1


def everything(estate: Estate) -> dict[str, object]:
    """Return what a preview must leave alone: states, resources, secrets, the vault's blobs, the agent."""
    folders = (estate.folders.state, estate.folders.resources, estate.folders.key_store, estate.folders.machines)
    files = {str(path): digest(path) for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()}
    return {**files, "blobs": estate.blob_names(), "agent": agent_on(estate.source)}


def agent_on(source: SourceMachine) -> str:
    """Return the agent's files with their times and content, and its process."""
    return source.run(
        f"sudo find {CONFIG_FOLDER} {PROGRAM_FOLDER} {UNIT_FILE} -printf '%p %T@ %M\\n'; "
        f"sudo find {CONFIG_FOLDER} {PROGRAM_FOLDER} {UNIT_FILE} -type f -exec sha256sum {{}} +; "
        f"systemctl show -p MainPID {UNIT}"
    )


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def recovered(estate: Estate) -> machines.Machine:
    """Return the one machine that runs in the cloud."""
    (machine,) = machines.machines(estate.folders.machines)
    assert machine.alive()
    return machine


def summary(events: str) -> dict[str, int]:
    """Return how many resources the run that said `events` changed, by operation."""
    parsed = [json.loads(line) for line in events.splitlines() if '"summaryEvent"' in line]
    counts: dict[str, int] = parsed[-1]["summaryEvent"]["resourceChanges"]
    return {kind: count for kind, count in counts.items() if kind != "same"}
