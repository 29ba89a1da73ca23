"""Servers of several shapes side by side in one estate and one recovery plan, so that Pulumi runs once for all."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from demo.stage import Stage, free_ports
from dr.local import machines
from tests.end_to_end.estate import Estate, staged
from tools.machines.laying import laid_out, machine
from tools.machines.shape import Shape
from tools.machines.source import SSH, SourceMachine
from tools.setup.paths import Cache

PLAN = "fleet"
BUILDERS = 2
START_SECONDS = 900  # several machines start at once
DELTA_SECONDS = 1500


class Fleet:
    """The servers of `shapes`; `servers` are their estates, by name, on one stage."""

    def __init__(self, stage: Stage, sources: dict[str, SourceMachine]) -> None:
        self.stage = stage
        self.servers = {name: Estate(stage, source, name) for name, source in sources.items()}
        self._any = next(iter(self.servers.values()))

    def up(self, stack: str) -> list[str]:
        return self._any.up(stack)

    def preview(self, stack: str) -> list[str]:
        return self._any.preview(stack)

    def wait_for_deltas(self) -> dict[str, int]:
        """Wait until every replica is complete; return how many seconds from now each one took."""
        begun = time.monotonic()
        took: dict[str, int] = {}
        while len(took) < len(self.servers):
            modes = {name: estate.server.agent().get("mode") for name, estate in self.servers.items()}
            now = round(time.monotonic() - begun)
            took |= {name: now for name, mode in modes.items() if mode == "delta" and name not in took}
            assert time.monotonic() - begun < DELTA_SECONDS, modes
            time.sleep(2)
        return took

    def fail_over(self) -> dict[str, int]:
        """`dr failover`; return how many seconds each recovered server took from its start to its passed check."""
        self.stage.dr_json("failover", PLAN, "--yes", timeout=1800)
        said = self.stage.run("pulumi", "stack", "output", "servers", "--json", "--stack", f"failover-{PLAN}-local")
        passed = {server["server"]: server["checks"][0]["passedAt"] for server in json.loads(said)}
        return {name: round(datetime.fromisoformat(at).timestamp() - self._begun(name)) for name, at in passed.items()}

    def recovered(self, name: str) -> SourceMachine:
        """Return the machine in the cloud that replaces a server, for its shell only."""
        source = self.servers[name].source
        cloud = self._recovered(name)
        return SourceMachine(cloud.folder, source.identity, [], source.key_file, ports=dict(cloud.ports))

    def _begun(self, name: str) -> float:
        process = self._recovered(name).identity.process()
        assert process is not None
        return process.create_time()

    def _recovered(self, name: str) -> machines.Machine:
        (found,) = (each for each in machines.machines(self._any.folders.machines) if each.spec.name == name)
        assert found.alive()
        return found


@contextmanager
def protected(folder: Path, shapes: Sequence[Shape]) -> Iterator[Fleet]:
    """Yield a fleet that runs, is declared, and whose vault is up; no agent is on it yet."""
    cache = Cache.from_environment()
    with ThreadPoolExecutor(BUILDERS) as pool:
        list(pool.map(lambda shape: laid_out(shape, cache), shapes))
    with staged(folder) as stage, ExitStack() as running:
        sources: dict[str, SourceMachine] = {}
        for shape in shapes:
            source = running.enter_context(machine(shape, stage.source / shape.name))
            source.start()
            sources[shape.name] = source
        for source in sources.values():
            source.wait_ssh(timeout_seconds=START_SECONDS)
        _declare(stage, shapes, sources)
        stage.load_environment({})
        stage.dr("local", "up")
        fleet = Fleet(stage, sources)
        fleet.up("vault-local")
        yield fleet


def _declare(stage: Stage, shapes: Sequence[Shape], sources: dict[str, SourceMachine]) -> None:
    """Write the example's declaration with these servers in place of its own."""
    shutil.copytree(stage.checkout / "plans", stage.plans)
    (site,) = yaml.safe_load_all((stage.plans / "site.yaml").read_text())
    site["configurationServer"]["port"], site["processServers"][0]["port"] = free_ports(2)
    (policy,) = yaml.safe_load_all((stage.plans / "policies.yaml").read_text())
    policy["crashConsistentEvery"] = "1h"  # points on request only
    (example,) = yaml.safe_load_all((stage.plans / "servers.yaml").read_text())
    servers = [_server(example, shape, sources[shape.name], 10 + index) for index, shape in enumerate(shapes)]
    checks = [{"server": name, "http": {"port": 8080, "path": "/"}, "timeout": "15m"} for name in sources]
    group = {"servers": list(sources), "checks": checks}
    plan = {"kind": "RecoveryPlan", "name": PLAN, "groups": [group]}
    for file, documents in (("site", [site]), ("policies", [policy]), ("servers", servers), ("plans", [plan])):
        (stage.plans / f"{file}.yaml").write_text(yaml.safe_dump_all(documents, sort_keys=False))


def _server(example: dict[str, Any], shape: Shape, source: SourceMachine, number: int) -> dict[str, Any]:
    ssh = {name: value for name, value in example["ssh"].items() if name != "keyEnv"}
    ssh |= {"port": source.port(SSH), "hostKey": source.host_key, "keyFile": str(source.key_file)}
    tags = dict(example["target"]["tags"])
    target = {**example["target"], "tags": tags, "address": f"10.20.1.{number}", "firmware": shape.firmware}
    disks = [{"name": f"disk{index}", "device": drive.device} for index, drive in enumerate(source.drives)]
    return {**example, "name": shape.name, "ssh": ssh, "disks": disks, "target": target}
