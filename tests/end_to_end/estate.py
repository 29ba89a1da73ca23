"""A whole estate for these tests: one running server, a stage of its own, and what a person and an attacker may do.

The vault is read here with Azure's SDK and the picture's shop with SQLite, so that what is compared never went
through the code under test.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import BlobServiceClient
from lz4.block import compress

from demo import inventory
from demo.protected import ProtectedServer, Status
from demo.stage import CommandFailed, Stage, changes
from dr.compile import names
from dr.local import machines
from dr.local.processes import ProcessIdentity
from dr.push.layout import UNIT
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders
from dr.target.secrets import FolderKeyStore
from tools.machines import saved
from tools.machines.disk import ROOT_OFFSET
from tools.machines.shop import shop
from tools.machines.source import SourceMachine, wait_for

SERVER = "shop1"
SHOP_PORT = 8080
SITE = "harbour"
ACCOUNT = names.storage_account(SITE, LOCAL_SUBSCRIPTION)
CHUNK = 64 << 10
BLOCK = 4 << 20


class Estate:
    """One server (`shop1`, if it is the only one) and the stage that protects it."""

    def __init__(self, stage: Stage, source: SourceMachine, name: str = SERVER) -> None:
        self.stage, self.source, self.name = stage, source, name
        self.server = ProtectedServer(stage, source, name)
        self.folders = Folders(stage.local)

    # -- what a person types -----------------------------------------------------------------------------------

    def up(self, stack: str) -> list[str]:
        """`pulumi up`; return "operation type" of every step that is not "same"."""
        events = self.stage.run("pulumi", "up", "--yes", "--json", "--skip-preview", "--stack", stack)
        return self._steps(events)

    def destroy(self, stack: str) -> list[str]:
        events = self.stage.run("pulumi", "destroy", "--yes", "--json", "--skip-preview", "--stack", stack)
        return self._steps(events)

    def preview(self, stack: str) -> list[str]:
        """`pulumi preview`; return "operation type" of every step that is not "same"."""
        document = json.loads(self.stage.run("pulumi", "preview", "--json", "--stack", stack))
        changes(document["changeSummary"])
        return [f"{step['op']} {_type(step['urn'])}" for step in document["steps"] if step["op"] != "same"]

    def _steps(self, events: str) -> list[str]:
        parsed = [json.loads(line) for line in events.splitlines() if line.startswith("{")]
        steps = [event["resourcePreEvent"]["metadata"] for event in parsed if "resourcePreEvent" in event]
        return [f"{step['op']} {step['type'].rpartition(':')[2]}" for step in steps if step["op"] != "same"]

    def points(self) -> list[str]:
        return [point["id"] for point in self.stage.dr_json("points", self.name)["points"]]

    def verify(self, point: str) -> None:
        """Let `dr points --verify` prove a point."""
        answer = self.stage.dr_json("points", self.name, "--verify", point)
        assert answer["verification"]["verified"] is True, answer

    # -- what happens to it ------------------------------------------------------------------------------------

    def kill_agent(self) -> None:
        """kill -9 of the agent's main process, by its pid."""
        self.source.run(f"sudo kill -9 $(systemctl show -p MainPID --value {UNIT})")

    def wait_agent(self) -> Status:
        """Wait until a new agent runs, and return the first status that it writes itself."""
        self.source.run("sudo rm -f /run/lifeboat/status.json")
        wait_for("a status of the new agent", lambda: self.agent_file() is not None, timeout_seconds=300)
        return self.agent_file() or {}

    def agent_file(self) -> Status | None:
        """Return what the agent wrote on the server last."""
        text = self.source.ssh("sudo cat /run/lifeboat/status.json").stdout
        return json.loads(text) if text else None

    def agent_log(self) -> str:
        return self.source.run(f"sudo journalctl -u {UNIT} -o cat --no-pager")

    def serve(self) -> psutil.Process:
        """Return the process of `dr serve`."""
        return self._process(self.folders.site / "daemon.json")

    def azurite(self) -> psutil.Process:
        """Return Azurite's process."""
        return self._process(self.folders.cloud / "azurite.json")

    def kill_serve(self) -> None:
        """kill -9 of `dr serve`, and its start by `dr local up`."""
        end(self.serve())
        self.stage.dr("local", "up")

    def _process(self, file: Path) -> psutil.Process:
        process = ProcessIdentity.from_dict(json.loads(file.read_text())).process()
        assert process is not None, f"the process of {file} does not run"
        return process

    # -- what is there, told by others -------------------------------------------------------------------------

    def secret(self, name: str) -> bytes:
        """Return a secret of the key store."""
        return FolderKeyStore(self.folders.key_store, self.passphrase).get(name)

    @property
    def passphrase(self) -> str:
        return self.folders.envelope.read_text().strip()

    @contextmanager
    def blobs(self) -> Iterator[BlobServiceClient]:
        """Open the vault's storage with Azure's SDK."""
        endpoint = json.loads(self.folders.accounts.read_text())["endpoint"]
        login = {"account_name": ACCOUNT, "account_key": self.secret(f"storage-{ACCOUNT}").decode()}
        with closing(BlobServiceClient(f"{endpoint}/{ACCOUNT}", credential=login)) as client:
            yield client

    def blob_names(self) -> dict[str, set[str]]:
        """Return the names of all blobs by container."""
        with self.blobs() as client:
            containers = [container.name for container in client.list_containers()]
            return {name: set(client.get_container_client(name).list_blob_names()) for name in containers}

    def replica_position(self) -> int:
        """Return the position that the replica claims, -1 without a replica."""
        with self.blobs() as client:
            blob = client.get_blob_client(names.REPLICAS, names.replica_blob(self.name, "os"))
            with suppress(ResourceNotFoundError):
                return int((blob.get_blob_properties().metadata or {}).get("sequence", -1))
        return -1

    def differing_chunks(self, point: str, *pictures: Path) -> list[tuple[int, int]]:
        """Compare a point's snapshots with a picture of each disk; return disk and offset of the chunks that differ."""
        with self.blobs() as client:
            epoch, number = point.split("-")[-2:]
            blob = client.get_blob_client(names.MANIFESTS, names.manifest_blob(self.name, int(epoch), int(number)))
            disks = json.loads(blob.download_blob().readall())["disks"]
            return [
                (index, offset)
                for index, (disk, picture) in enumerate(zip(disks, pictures, strict=True))
                for offset in _differing(client, disk, picture)
            ]


def _differing(client: BlobServiceClient, disk: dict[str, Any], picture: Path) -> Iterator[int]:
    blob = client.get_blob_client(names.REPLICAS, disk["blob"], snapshot=disk["snapshot"])
    pages = [(page.start or 0, page.end or 0) for page in blob.list_page_ranges()]
    held = {place for start, end in pages for place in range(start // BLOCK, end // BLOCK + 1)}
    with picture.open("rb") as file:
        for start in range(0, disk["size_bytes"], BLOCK):
            ours = file.read(BLOCK)
            length = min(BLOCK, disk["size_bytes"] - start)
            theirs = blob.download_blob(start, length).readall() if start // BLOCK in held else bytes(length)
            ours += bytes(length - len(ours))
            if ours != theirs:
                for at in range(0, length, CHUNK):
                    if ours[at : at + CHUNK] != theirs[at : at + CHUNK]:
                        yield start + at


def check_shop(picture: Path, scratch: Path, *, orders: int) -> None:
    """Open the shop's database as a picture of the disk holds it: whole, with at least `orders` orders."""
    scratch.mkdir()
    command = ["debugfs", "-R", f"rdump /var/lib/shop {scratch}", f"{picture}?offset={ROOT_OFFSET}"]
    subprocess.run(command, check=True, capture_output=True)
    with closing(shop.connect(str(scratch / "shop" / "orders.db"))) as database:
        state = shop.state(database)
    assert state["integrity"] == "ok"
    assert state["orders"] >= orders


def one_sending(picture: Path) -> int:
    """Return about how many bytes it takes to send the disk once: what is not zero, compressed."""
    total = 0
    with picture.open("rb") as file:
        while chunk := file.read(CHUNK):
            if chunk != bytes(len(chunk)):
                total += min(len(compress(chunk, store_size=False)), len(chunk))
    return total


def end(process: psutil.Process) -> None:
    """kill -9, and wait until it is gone."""
    process.kill()
    with suppress(psutil.TimeoutExpired):
        process.wait(10)


@contextmanager
def raised(folder: Path, prepare: Callable[[SourceMachine], None] = lambda source: None) -> Iterator[Estate]:
    """Yield an estate whose server runs and whose vault is up; `prepare` sees the server before anything of ours."""
    with staged(folder) as stage, saved.resume(stage.source) as source:
        estate = Estate(stage, source)
        prepare(source)
        estate.server.declare()
        stage.dr("local", "up")
        estate.up("vault-local")
        yield estate


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """Yield a stage with a fresh checkout, and leave no process and nothing big behind."""
    stage = Stage(folder)
    stage.fresh_checkout()
    try:
        yield stage
    finally:
        for machine in machines.machines(Folders(stage.local).machines):
            machine.stop()  # what it would write in an orderly shutdown goes with its disk
        with suppress(CommandFailed, OSError):
            stage.dr("local", "down")
        for process in inventory.processes(folder):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        for console in stage.source.rglob("console.log"):  # what a machine said last outlives it
            console.replace(stage.folder / f"console-{console.parent.name}.log")
        for big in (stage.source, Folders(stage.local).azurite, Folders(stage.local).disks):
            shutil.rmtree(big, ignore_errors=True)


def _type(urn: str) -> str:
    return urn.split("::")[2].rpartition("$")[2].rpartition(":")[2]
