"""Blueprint of one run of a recovery plan: disks, NICs, VMs, checks and actions, group by group. Pure."""

from __future__ import annotations

import difflib
from dataclasses import replace

from dr.compile import actions, names
from dr.compile.blueprint import (
    CheckBlueprint,
    FailoverBlueprint,
    GroupBlueprint,
    RecoveredDiskBlueprint,
    RecoveredServerBlueprint,
    ReplicationGroup,
)
from dr.errors import NotFound, Refused
from dr.model import Declaration, Disk, Firmware, HealthCheck, PlanGroup, RunKind, Server

LATEST, LATEST_GROUP = "latest", "latest-group"


def default_selector(declaration: Declaration, plan_name: str) -> str:
    """Return the selector of a run that is told none: the shared point where the plan has a replication group."""
    plan = declaration.plans.get(plan_name)
    servers = [name for group in plan.groups for name in group.servers] if plan else []
    return LATEST_GROUP if any(_replication_group(declaration, declaration.servers[s]) for s in servers) else LATEST


def failover(declaration: Declaration, plan_name: str, run: str, selector: str, subscription: str) -> FailoverBlueprint:
    """Return the blueprint of run `run` of a plan.

    Raises `NotFound` when the declaration has no such plan, `Refused` when `run` can't be a part of Azure's names.
    """
    if plan_name not in declaration.plans:
        raise NotFound(f'no recovery plan "{plan_name}" is declared', remedy=_plans_there_are(declaration, plan_name))
    if not names.RUN_PATTERN.fullmatch(run):
        raise Refused(
            f'"{run}" can\'t be the id of a run',
            code="run-id-invalid",
            remedy=f"take at most {names.RUN_LENGTH} letters, digits and single hyphens",
        )
    site = declaration.site.name
    tags = {names.TAG_SITE: site, names.TAG_PLAN: plan_name, names.TAG_RUN: run}
    return FailoverBlueprint(
        plan=plan_name,
        run=run,
        selector=selector,
        resource_group=names.run_resource_group(plan_name, run),
        location=declaration.site.location,
        storage_account=names.storage_account(site, subscription),
        storage_resource_group=names.vault_resource_group(declaration.site),
        groups=tuple(_group(declaration, group, plan_name, run, tags) for group in declaration.plans[plan_name].groups),
        tags=tags,
    )


def _plans_there_are(declaration: Declaration, plan_name: str) -> str:
    meant = difflib.get_close_matches(plan_name, list(declaration.plans), n=1)
    if meant:
        return f'did you mean "{meant[0]}"?'
    return f"the plans are: {', '.join(sorted(declaration.plans))}" if declaration.plans else "declare a RecoveryPlan"


def _group(declaration: Declaration, group: PlanGroup, plan: str, run: str, tags: dict[str, str]) -> GroupBlueprint:
    return GroupBlueprint(
        servers=tuple(_server(declaration, declaration.servers[name], plan, run, tags) for name in group.servers),
        checks=tuple(_check(declaration, check) for check in group.checks),
        before=actions.before(declaration, group, RunKind.FAILOVER),
        after=actions.after(declaration, group, RunKind.FAILOVER),
    )


def _server(
    declaration: Declaration, server: Server, plan: str, run: str, tags: dict[str, str]
) -> RecoveredServerBlueprint:
    target = server.target
    return RecoveredServerBlueprint(
        server=server.name,
        virtual_machine=names.virtual_machine(target.name),
        size=target.size,
        generation="V2" if target.firmware is Firmware.UEFI else "V1",
        nic=names.nic(run, server.name),
        address=target.address,
        subnet=target.subnet,
        subnet_id_suffix=names.subnet_id_suffix(declaration.site, target.subnet),
        zone=target.zone,
        capacity_group_id_suffix=(
            names.capacity_group_id_suffix(declaration.site, target.zone)
            if declaration.site.capacity_reservation
            else None
        ),
        disks=tuple(_disk(disk, index, server.name, plan, run) for index, disk in enumerate(server.disks)),
        # Ours last: repair and teardown find what is left of a run by these.
        tags=dict(target.tags) | tags | {names.TAG_SERVER: server.name},
        replication_group=_replication_group(declaration, server),
    )


def _replication_group(declaration: Declaration, server: Server) -> ReplicationGroup | None:
    if server.group is None:
        return None
    members = sorted(name for name, other in declaration.servers.items() if other.group == server.group)
    return ReplicationGroup(server.group, tuple(members)) if len(members) > 1 else None


def _disk(disk: Disk, index: int, server: str, plan: str, run: str) -> RecoveredDiskBlueprint:
    return RecoveredDiskBlueprint(
        name=disk.name,
        managed_disk=names.managed_disk(run, server, disk.name),
        copy_blob=names.run_copy_blob(plan, run, server, disk.name),
        lun=None if index == 0 else index - 1,  # the first declared disk is the one that boots
    )


def _check(declaration: Declaration, check: HealthCheck) -> CheckBlueprint:
    by_ssh = check.kind == "ssh"  # as the user itself, so nobody asks sudo
    server = declaration.servers[check.server] if by_ssh else None
    ssh = None if server is None else replace(actions.login_there(server, check.port), sudo_password=None)
    return CheckBlueprint(
        name=names.health_check(check.server, check.kind, check.port, check.path, check.command),
        server=check.server,
        kind=check.kind,
        port=check.port,
        path=check.path,
        status=check.status,
        contains=check.contains,
        timeout_seconds=check.timeout_seconds,
        command=check.command,
        engine=check.engine,
        ssh=ssh,
    )
