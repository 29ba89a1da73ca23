"""From checked data to the model; called only when nothing is wrong. Pure."""

from __future__ import annotations

from typing import Any

from dr.model import (
    ConfigurationServer,
    Declaration,
    Disk,
    Firmware,
    HealthCheck,
    Network,
    PlanGroup,
    ProcessServer,
    RecoveryPlan,
    ReplicationPolicy,
    Server,
    Site,
    Ssh,
    Subnet,
    Target,
)
from dr.schema.durations import seconds
from dr.schema.thing import Data, Estate


def build(estate: Estate) -> Declaration:
    """Return the declaration; policies, servers and plans are ordered by name, whatever file they came from."""
    return Declaration(
        site=_site(next(estate.of("Site")).data),
        policies={data["name"]: _policy(data) for data in _sorted(estate, "ReplicationPolicy")},
        servers={data["name"]: _server(data) for data in _sorted(estate, "Server")},
        plans={data["name"]: _plan(data) for data in _sorted(estate, "RecoveryPlan")},
    )


def _sorted(estate: Estate, kind: str) -> list[Data]:
    return sorted((thing.data for thing in estate.of(kind)), key=lambda data: str(data["name"]))


def _site(data: Data) -> Site:
    network = data["network"]
    subnets = tuple(Subnet(s["name"], s["prefix"], tuple(sorted(s["inboundPorts"]))) for s in network["subnets"])
    configuration = data["configurationServer"]
    return Site(
        name=data["name"],
        location=data["location"],
        subscription=data.get("subscription"),
        network=Network(network["addressSpace"], subnets),
        configuration_server=ConfigurationServer(configuration["address"], configuration["port"]),
        process_servers=tuple(ProcessServer(p["name"], p["address"], p["port"]) for p in data["processServers"]),
    )


def _policy(data: Data) -> ReplicationPolicy:
    return ReplicationPolicy(
        name=data["name"],
        rpo_threshold_seconds=seconds(data["rpoThreshold"]),
        retention_seconds=seconds(data["retention"]),
        crash_consistent_seconds=seconds(data["crashConsistentEvery"]),
    )


def _server(data: Data) -> Server:
    ssh, target = data["ssh"], data["target"]
    return Server(
        name=data["name"],
        ssh=Ssh(
            address=ssh["address"],
            port=ssh["port"],
            user=ssh["user"],
            key_file=ssh.get("keyFile"),
            key_env=ssh.get("keyEnv"),
            # Type and key only: the comment behind them is nobody's identity.
            host_key=" ".join(ssh["hostKey"].split()[:2]),
        ),
        policy=data["policy"],
        disks=tuple(Disk(disk["name"], disk["device"]) for disk in data["disks"]),
        target=Target(
            name=target.get("name", data["name"]),
            size=target["size"],
            subnet=target["subnet"],
            address=target["address"],
            firmware=Firmware(target["firmware"]),
            tags=dict(sorted(target["tags"].items())),
        ),
    )


def _plan(data: Data) -> RecoveryPlan:
    groups = tuple(
        PlanGroup(tuple(group["servers"]), tuple(_check(check) for check in group["checks"]))
        for group in data["groups"]
    )
    return RecoveryPlan(data["name"], groups)


def _check(data: Data) -> HealthCheck:
    kind = "http" if "http" in data else "tcp"
    details: dict[str, Any] = data[kind]
    return HealthCheck(
        server=data["server"],
        kind=kind,
        port=details["port"],
        path=details.get("path", "/"),
        status=details.get("status", 200),
        contains=details.get("contains"),
        timeout_seconds=seconds(data["timeout"]),
    )
