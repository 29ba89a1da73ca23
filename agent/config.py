"""The agent's configuration, as the push installation writes it to `/etc/lifeboat/agent.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Tuple

from agent.application import Application
from agent.application import parse as parse_application
from dr.errors import DeclarationInvalid

RUN_FOLDER = "/run/lifeboat"
CACHE_FOLDER = "/var/cache/lifeboat"
INSTANCE = "lifeboat"
TRACEFS = "/sys/kernel/tracing"
BPFFS = "/sys/fs/bpf"
PULSE_SECONDS = 60.0
SETTLE_SECONDS = 30.0  # both witnesses are heard every 5 s


@dataclass(frozen=True)
class Hardware:
    """What the installation found; `disks` maps a disk's name to its `size_bytes` and `serial`."""

    product_uuid: str
    disks: Mapping[str, Tuple[int, str]]


@dataclass(frozen=True)
class Config:
    """Everything an agent is told; `disks` maps names to device paths, addresses are `host:port`."""

    server: str
    site: str
    protection_epoch: int
    configuration_server: str
    process_servers: Tuple[str, ...]
    disks: Mapping[str, str]
    ca: str
    certificate: str
    key: str
    token: str
    hardware: Hardware
    crash_consistent_seconds: float
    tracker_kib: int
    buffer_bytes: int
    run_folder: str = RUN_FOLDER
    cache_folder: str = CACHE_FOLDER
    instance: str = INSTANCE
    tracefs: str = TRACEFS
    bpffs: str = BPFFS
    pulse_seconds: float = PULSE_SECONDS
    applications: Tuple[Application, ...] = ()
    settle_seconds: float = SETTLE_SECONDS  # how long a verification pass waits before its second look

    @property
    def pins(self) -> str:
        """Return the folder of the tracker's pinned maps."""
        return f"{self.bpffs}/{self.instance}"


def load(path: str) -> Config:
    """Read the configuration; raises `DeclarationInvalid` that names what is wrong."""
    try:
        with open(path, encoding="utf-8") as file:
            return parse(json.load(file))
    except OSError as error:
        raise DeclarationInvalid(f"{path}: {error.strerror}", remedy="run `pulumi up` of the site again") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{type(error).__name__} {error}"
        raise DeclarationInvalid(f"{path}: {what}", remedy="run `pulumi up` of the site again") from error


def parse(document: Mapping[str, Any]) -> Config:
    """Turn the JSON document into a `Config`; raises what a missing or wrong value raises."""
    limits, folders = document["limits"], _optional(document)
    hardware = document["hardware"]
    return Config(
        server=str(document["server"]),
        site=str(document["site"]),
        protection_epoch=int(document["protection_epoch"]),
        configuration_server=str(document["configuration_server"]),
        process_servers=tuple(str(address) for address in document["process_servers"]),
        disks={str(disk["name"]): str(disk["device"]) for disk in document["disks"]},
        ca=str(document["tls"]["ca"]),
        certificate=str(document["tls"]["cert"]),
        key=str(document["tls"]["key"]),
        token=str(document["tls"]["token"]),
        hardware=Hardware(
            str(hardware["product_uuid"]),
            {str(name): (int(facts["size_bytes"]), str(facts["serial"])) for name, facts in hardware["disks"].items()},
        ),
        crash_consistent_seconds=float(document["policy"]["crash_consistent_seconds"]),
        tracker_kib=int(limits["tracker_kib"]),
        buffer_bytes=int(limits["buffer_bytes"]),
        applications=tuple(parse_application(each) for each in document.get("applications", ())),
        pulse_seconds=float(document.get("pulse_seconds", PULSE_SECONDS)),
        settle_seconds=float(document.get("settle_seconds", SETTLE_SECONDS)),
        **folders,
    )


def _optional(document: Mapping[str, Any]) -> Dict[str, str]:
    names = ("run_folder", "cache_folder", "instance", "tracefs", "bpffs")
    return {name: str(document[name]) for name in names if name in document}
