"""Checks of the servers: what they refer to, what two of them can't share, and what is not a whole disk. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address

from dr.schema import durations
from dr.schema.document import Path
from dr.schema.findings import Finding, closest, quoted
from dr.schema.keys import wrong_with_host_key
from dr.schema.thing import Estate, Thing, items
from dr.schema.vm_sizes import wrong_with_size

_PARTITION = re.compile(
    r"/dev/((sd|vd|xvd|hd)[a-z]+[0-9]+|(nvme[0-9]+n|mmcblk|loop)[0-9]+p[0-9]+|disk/by-id/.+-part[0-9]+)"
)
_STACKED = re.compile(r"/dev/(dm|md|disk/by-id/(dm|md|lvm))\b.*|/dev/(dm|md)[0-9]+")


def check_servers(estate: Estate) -> Iterator[Finding]:
    """Yield what is wrong with servers and policies beyond their shape."""
    for policy in estate.of("ReplicationPolicy"):
        yield from _check_policy(policy)
    for site in estate.of("Site"):
        yield from _check_listeners(site)
    reached: dict[tuple[str, int], Thing] = {}
    machines: dict[str, Thing] = {}
    for server in estate.of("Server"):
        yield from _check_references(estate, server)
        yield from _check_ssh(server, reached)
        yield from _check_disks(server)
        yield from _check_machine(server, machines)


def _check_policy(policy: Thing) -> Iterator[Finding]:
    data = policy.data
    every, retention, threshold = (data.get(k) for k in ("crashConsistentEvery", "retention", "rpoThreshold"))
    if every is None:
        return
    step = durations.seconds(every)
    if retention is not None and 0 < durations.seconds(retention) < step:
        message = f"retention {retention} is shorter than crashConsistentEvery {every}: there would often be no point"
        yield policy.finding(("retention",), message)
    if threshold is not None and durations.seconds(threshold) < step:
        message = f"rpoThreshold {threshold} is shorter than crashConsistentEvery {every}: it would always be exceeded"
        yield policy.finding(("rpoThreshold",), message)


def _check_listeners(site: Thing) -> Iterator[Finding]:
    """Yield process servers that share a name, or an address and port with another listener."""
    server = site.section("configurationServer")
    taken: dict[tuple[object, object], str] = {}
    if "address" in server and "port" in server:
        taken[(server["address"], server["port"])] = "the configuration server"
    yield from _wrong_address(site, ("configurationServer", "address"), server.get("address"))
    named: dict[str, int] = {}
    for index, process in items(site.data.get("processServers")):
        path: Path = ("processServers", index)
        name, listener = process.get("name"), (process.get("address"), process.get("port"))
        yield from _wrong_address(site, (*path, "address"), process.get("address"))
        if name is not None and name in named:
            place = site.where(("processServers", named[name], "name"))
            yield site.finding((*path, "name"), f"process server {quoted(name)} is declared twice (first at {place})")
        elif name is not None:
            named[name] = index
        if None not in listener and listener in taken:
            message = f"{listener[0]}:{listener[1]} is taken by {taken[listener]}"
            yield site.finding((*path, "address"), message)
        taken.setdefault(listener, f'process server "{name}"')


def _wrong_address(thing: Thing, path: Path, address: object) -> Iterator[Finding]:
    """Yield what looks like an IPv4 address and is none (`10.0.2.256` would pass as a host name)."""
    if isinstance(address, str) and re.fullmatch(r"[0-9.]+", address):
        try:
            IPv4Address(address)
        except ValueError:
            yield thing.finding(path, f"address {quoted(address)} is not an IPv4 address")


def _check_references(estate: Estate, server: Thing) -> Iterator[Finding]:
    policy = server.data.get("policy")
    if policy is not None and not estate.known("ReplicationPolicy", policy):
        meant = closest(policy, sorted(estate.names["ReplicationPolicy"]))
        yield server.finding(("policy",), f"unknown policy {quoted(policy)}", meant)


def _check_ssh(server: Thing, reached: dict[tuple[str, int], Thing]) -> Iterator[Finding]:
    ssh = server.section("ssh")
    yield from _wrong_address(server, ("ssh", "address"), ssh.get("address"))
    key = ssh.get("hostKey")
    wrong = wrong_with_host_key(key) if key is not None else None
    if wrong:
        yield server.finding(("ssh", "hostKey"), f"hostKey {wrong}")
    if "address" not in ssh or "port" not in ssh:
        return
    end = (ssh["address"], ssh["port"])
    if end in reached:
        place = reached[end].where(("ssh", "address"))
        message = f'{end[0]}:{end[1]} is the SSH address of server "{reached[end].name}" already ({place})'
        yield server.finding(("ssh", "address"), message)
    reached.setdefault(end, server)


def _check_disks(server: Thing) -> Iterator[Finding]:
    seen: dict[tuple[str, str], int] = {}
    for index, disk in items(server.data.get("disks")):
        for key, word in (("name", "disk"), ("device", "device")):
            value = disk.get(key)
            if value is None:
                continue
            path: Path = ("disks", index, key)
            if (key, value) in seen:
                place = server.where(("disks", seen[(key, value)], key))
                yield server.finding(path, f"{word} {quoted(value)} is declared twice (first at {place})")
            seen.setdefault((key, value), index)
        device = disk.get("device")
        if device is not None and _PARTITION.fullmatch(device):
            yield server.finding(
                ("disks", index, "device"), f"device {quoted(device)} is a partition; name its whole disk"
            )
        elif device is not None and _STACKED.fullmatch(device):
            message = f"device {quoted(device)} is put together from others; name the physical disks below it"
            yield server.finding(("disks", index, "device"), message)


def _check_machine(server: Thing, machines: dict[str, Thing]) -> Iterator[Finding]:
    target = server.section("target")
    name = target.get("name") or server.name
    if isinstance(name, str) and "target" in server.data:
        if name in machines:
            other = machines[name]
            place = other.where(("target", "name"))
            message = f'target name {quoted(name)} is used twice (first by server "{other.name}" at {place})'
            # Two servers of one name are reported as such.
            if other.name != server.name:
                yield server.finding(("target", "name"), message)
        machines.setdefault(name, server)
    size = target.get("size")
    lower: dict[str, str] = {}
    for key in target.get("tags", {}):
        # Azure's tag names don't know case: the second would replace the first.
        if key.lower() in lower:
            message = f"tag {quoted(key)} is given already as {quoted(lower[key.lower()])}; case makes no difference"
            yield server.document.finding(("target", "tags", key), message, at_key=True)
        lower.setdefault(key.lower(), key)
    wrong = wrong_with_size(size, target.get("firmware")) if size is not None else None
    if wrong:
        yield server.finding(("target", "size"), wrong)
