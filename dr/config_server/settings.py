"""`site/config.json`: what `up` of the site stack tells the site's servers. Read, checked, frozen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dr.errors import DeclarationInvalid, PrerequisiteMissing
from dr.model import Traffic, TrafficWindow

REMEDY = "run `pulumi up` of the vault stack, then `pulumi up --refresh` of the site stack"


class WaitingForSite(PrerequisiteMissing):
    """There is no site configuration yet."""

    code = "waiting-for-site"
    remedy = REMEDY


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server listens; `host` is under what name or address others reach it."""

    listen: str
    port: int
    host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Membership:
    """A server's place in a replication group: the others reach it at `address` (`host:port`), it listens at `port`."""

    name: str
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """One protected server; all durations in seconds."""

    name: str
    protection_epoch: int
    rpo_threshold_seconds: int
    crash_consistent_seconds: int
    retention_seconds: int
    traffic: Traffic = field(default_factory=Traffic)
    verify_seconds: int = 0  # between two verification passes; 0: only when an operator asks
    group: Membership | None = None
    app_consistent_seconds: int | None = None  # None: the policy wants none, or there are no applications to ask


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """The whole file."""

    site: str
    subscription: str
    storage_account: str
    configuration_server: Address
    process_server_name: str
    process_server: Address
    servers: Mapping[str, ServerSettings] = field(hash=False)
    process_servers: frozenset[str] = frozenset()  # the names of all that are declared

    def same_process(self, other: SiteSettings) -> bool:
        """Tell whether only the list of servers differs, so that nothing has to listen anew."""
        return _without_servers(self) == _without_servers(other)


def load(path: Path) -> SiteSettings:
    """Read the file. `WaitingForSite` when there is none, `DeclarationInvalid` when it is not usable."""
    try:
        return parse(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise WaitingForSite(f"{path} is not there yet") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{type(error).__name__} {error}"
        raise DeclarationInvalid(f"{path}: {what}", code="site-invalid", remedy=REMEDY) from error


def parse(document: Mapping[str, Any]) -> SiteSettings:
    """Return the settings; raises whatever a missing or wrong value raises."""
    process_server = document["process_server"]
    return SiteSettings(
        site=str(document["site"]),
        subscription=str(document["subscription"]),
        storage_account=str(document["storage_account"]),
        configuration_server=_address(document["configuration_server"]),
        process_server_name=str(process_server["name"]),
        process_server=_address(process_server),
        process_servers=frozenset(str(name) for name in document.get("process_servers", [process_server["name"]])),
        servers={str(name): _server(str(name), values) for name, values in document["servers"].items()},
    )


def _address(document: Mapping[str, Any]) -> Address:
    return Address(str(document["listen"]), int(document["port"]), str(document.get("host", "127.0.0.1")))


def _server(name: str, values: Mapping[str, Any]) -> ServerSettings:
    if not name.replace("-", "").isalnum() or not name.isascii():
        raise ValueError(f'"{name}" is no name of a server')
    return ServerSettings(
        name=name,
        protection_epoch=int(values["protection_epoch"]),
        rpo_threshold_seconds=int(values["rpo_threshold_seconds"]),
        crash_consistent_seconds=int(values["crash_consistent_seconds"]),
        retention_seconds=int(values["retention_seconds"]),
        traffic=_traffic(values.get("traffic", {})),
        verify_seconds=int(values.get("verify_seconds", 0)),
        group=_membership(values.get("group")),
        app_consistent_seconds=_optional(values.get("app_consistent_seconds")),
    )


def _membership(values: Mapping[str, Any] | None) -> Membership | None:
    if values is None:
        return None
    return Membership(str(values["name"]), str(values["address"]), int(values["port"]))


def _optional(value: Any) -> int | None:
    return None if value is None else int(value)


def _traffic(values: Mapping[str, Any]) -> Traffic:
    limit = values.get("bandwidth_bytes_per_second")
    return Traffic(
        str(values.get("timezone", "UTC")),
        None if limit is None else int(limit),
        tuple(_window(window) for window in values.get("windows", ())),
    )


def _window(values: Mapping[str, Any]) -> TrafficWindow:
    limit = values["bandwidth_bytes_per_second"]
    return TrafficWindow(
        tuple(int(day) for day in values["days"]),
        int(values["start_minute"]),
        int(values["end_minute"]),
        None if limit is None else int(limit),
        bool(values["resync"]),
    )


def _without_servers(settings: SiteSettings) -> tuple[object, ...]:
    return (
        settings.site,
        settings.subscription,
        settings.storage_account,
        settings.configuration_server,
        settings.process_server_name,
        settings.process_server,
    )
