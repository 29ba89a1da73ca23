"""What must hold before a failover registers its first resource; all problems at once, each with its remedy.

A resource's own check can report one problem only, and after others have been made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from dr.compile.blueprint import FailoverBlueprint, RecoveredServerBlueprint
from dr.compile.limits import wrong_with_disk
from dr.errors import LifeboatError, RunFailed, Unreachable
from dr.failover.selection import Selection, candidate, kept
from dr.failover.sharing import Share
from dr.vault.store import BlobStore

FIRMWARE_OF_GENERATION = {"V1": "bios", "V2": "uefi"}


@dataclass(frozen=True, slots=True)
class Obstacle:
    """One reason why a run would fail."""

    what: str
    remedy: str


class PreflightFailed(RunFailed):
    """A run was not begun; the message holds one line for each obstacle."""

    code = "preflight-failed"
    remedy = "nothing was changed; do what the lines above say and run the same command again"


@dataclass(frozen=True, slots=True)
class Checks:
    """What the preflight asks: the vault, and whether a resource exists (None: this target cannot be asked)."""

    open_store: Callable[[], BlobStore]
    exists: Callable[[str], bool | None]  # by ARM id


def require(blueprint: FailoverBlueprint, subscription: str, checks: Checks, now: datetime) -> None:
    """Check the plan against vault and landing zone. Raises `PreflightFailed` with every obstacle."""
    try:
        found = list(obstacles(blueprint, checks.open_store(), now))
    except LifeboatError as error:
        found = [Obstacle(f"the vault cannot be read: {error.message}", error.remedy or "make the vault reachable")]
    found += missing_networks(blueprint, subscription, checks.exists)
    if found:
        lines = [f"{obstacle.what} (remedy: {obstacle.remedy})" for obstacle in found]
        raise PreflightFailed("\n".join([f"plan {blueprint.plan} cannot fail over:", *lines]))


def missing_networks(
    blueprint: FailoverBlueprint, subscription: str, exists: Callable[[str], bool | None]
) -> Iterator[Obstacle]:
    """Yield the subnets that the servers want and that are not there."""
    servers = [server for group in blueprint.groups for server in group.servers]
    for suffix in sorted({server.subnet_id_suffix for server in servers}):
        if exists(f"/subscriptions/{subscription}{suffix}") is False:
            wanted = ", ".join(server.server for server in servers if server.subnet_id_suffix == suffix)
            yield Obstacle(
                f"the subnet {suffix.rpartition('/')[2]} that {wanted} is to live in does not exist",
                "`pulumi up` of the site's stack makes it",
            )


def obstacles(blueprint: FailoverBlueprint, store: BlobStore, now: datetime) -> Iterator[Obstacle]:
    """Yield what stands in the way. Raises `Unreachable` when the store does not answer at all."""
    for group in blueprint.groups:
        for server in group.servers:
            try:
                before = kept(store, blueprint.plan, blueprint.run, server.server)
                reselect = before is None or before.selector != blueprint.selector
                share = share_of(blueprint, server)
                point = candidate(store, server.server, blueprint.selector, now, share) if reselect else before
            except Unreachable:
                raise
            except LifeboatError as error:
                remedy = error.remedy or f"`dr points {server.server}` lists what there is"
                yield Obstacle(f"{server.server}: {error.message}", remedy)
                continue
            assert point is not None
            yield from _mismatches(server, point)


def share_of(blueprint: FailoverBlueprint, server: RecoveredServerBlueprint) -> Share | None:
    """Return a server's replication group in a run, None when it is in none."""
    group = server.replication_group
    return None if group is None else Share(blueprint.plan, blueprint.run, group)


def _mismatches(server: RecoveredServerBlueprint, point: Selection) -> Iterator[Obstacle]:
    present = {disk.name for disk in point.disks}
    missing = [disk.name for disk in server.disks if disk.name not in present]
    if missing:
        yield Obstacle(
            f"{server.server}: recovery point {point.point} has no disk {', '.join(missing)}",
            "choose a point that has it with --point, or take the disk out of the declaration",
        )
    declared = FIRMWARE_OF_GENERATION.get(server.generation)
    booting = {disk.name for disk in server.disks if disk.lun is None}
    for disk in point.disks:
        wrong = wrong_with_disk(disk.size_bytes, boots=disk.name in booting, firmware=declared)
        if wrong:
            yield Obstacle(
                f"{server.server}: disk {disk.name} of recovery point {point.point} {wrong}",
                "choose a point from before it grew with --point, or take the disk out of the declaration",
            )
    if declared and point.firmware in FIRMWARE_OF_GENERATION.values() and point.firmware != declared:
        yield Obstacle(
            f"{server.server}: the source boots by {point.firmware}, the declaration says {declared}",
            f"set firmware: {point.firmware} in the server's target",
        )
