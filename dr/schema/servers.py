"""Checks of the servers: what they refer to, what two of them can't share, and what is not a whole disk. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from dr.model import FAILBACK_SUFFIX
from dr.schema.document import Path
from dr.schema.findings import Finding, quoted, unknown
from dr.schema.keys import wrong_with_host_key
from dr.schema.sites import wrong_address
from dr.schema.thing import Data, Estate, Thing, items

_PARTITION = re.compile(
    r"/dev/((sd|vd|xvd|hd)[a-z]+[0-9]+|(nvme[0-9]+n|mmcblk|loop)[0-9]+p[0-9]+|disk/by-id/.+-part[0-9]+)"
)
_STACKED = re.compile(r"/dev/(dm|md|disk/by-id/(dm|md|lvm))\b.*|/dev/(dm|md)[0-9]+")


def check_servers(estate: Estate) -> Iterator[Finding]:
    """Yield what is wrong with servers beyond their shape and their targets."""
    reached: dict[tuple[object, ...], Thing] = {}
    for server in estate.of("Server"):
        yield from _check_references(estate, server)
        yield from _check_ssh(server, reached)
        yield from _check_disks(server)


def _check_references(estate: Estate, server: Thing) -> Iterator[Finding]:
    policy = server.data.get("policy")
    if policy is None or estate.known("ReplicationPolicy", policy):
        return
    if policy.endswith(FAILBACK_SUFFIX):
        message = f"policy {quoted(policy)} is for failback only; name the policy of the way there"
        yield server.finding(("policy",), message, policy.removesuffix(FAILBACK_SUFFIX))
        return
    yield server.finding(("policy",), *unknown("policy", policy, estate.names["ReplicationPolicy"]))


def _check_ssh(server: Thing, reached: dict[tuple[object, ...], Thing]) -> Iterator[Finding]:
    ssh = server.section("ssh")
    jump: Data = ssh["jump"] if isinstance(ssh.get("jump"), dict) else {}
    for path, end in ((("ssh",), ssh), (("ssh", "jump"), jump)):
        yield from wrong_address(server, (*path, "address"), end.get("address"))
        key = end.get("hostKey")
        wrong = wrong_with_host_key(key) if key is not None else None
        if wrong:
            yield server.finding((*path, "hostKey"), f"hostKey {wrong}")
    if ssh.get("user") == "root" and "sudoPassword" in ssh:
        yield server.finding(("ssh", "sudoPassword"), "user root needs no sudo; leave sudoPassword out")
    if "address" not in ssh or "port" not in ssh:
        return
    end_seen = (ssh["address"], ssh["port"], jump.get("address"), jump.get("port"))
    if end_seen[:2] == end_seen[2:]:
        yield server.finding(("ssh", "jump", "address"), "the jump host is the server itself; leave jump out")
    if end_seen in reached:
        other = reached[end_seen]
        place = other.where(("ssh", "address"))
        message = f'{ssh["address"]}:{ssh["port"]} is the SSH address of server "{other.name}" already ({place})'
        yield server.finding(("ssh", "address"), message, remedy="correct one of them")
    reached.setdefault(end_seen, server)


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
                yield server.finding(path, f"{word} {quoted(value)} is declared twice (first at {place}); take one out")
            seen.setdefault((key, value), index)
        device = disk.get("device")
        if device is not None and _PARTITION.fullmatch(device):
            yield server.finding(
                ("disks", index, "device"), f"device {quoted(device)} is a partition; name its whole disk"
            )
        elif device is not None and _STACKED.fullmatch(device):
            message = f"device {quoted(device)} is put together from others; name the physical disks below it"
            yield server.finding(("disks", index, "device"), message)
