"""The stack `failover-PLAN-TARGET`: the recovered servers of one run, in a resource group of its own.

Order: copies, disks and NICs of all groups at once (they only prepare); then group by group its actions before, its
VMs, their health checks, its actions after. Changing the recovery point replaces copy, disk and VM, in that order, and
leaves the NIC; the group's actions are looked at again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
from pulumi_azure_native import compute, network, resources

from dr.compile import names
from dr.compile.blueprint import CheckBlueprint, FailoverBlueprint, RecoveredDiskBlueprint, RecoveredServerBlueprint
from stacks.actions import Actions
from stacks.options import named
from stacks.resources import BlobCopy, HealthCheck, RecoveryPoint

DISK_SKU = "StandardSSD_LRS"  # every VM size takes it; premium disks need sizes that have an "s"


@dataclass(frozen=True, slots=True)
class Run:
    """What all resources of the run share."""

    blueprint: FailoverBlueprint
    subscription: str
    group: resources.ResourceGroup

    @property
    def storage_account_id(self) -> str:
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.blueprint.storage_resource_group}"
            f"/providers/Microsoft.Storage/storageAccounts/{self.blueprint.storage_account}"
        )


def program(blueprint: FailoverBlueprint, subscription: str, *, source_may_be_alive: str | None = None) -> None:
    """Declare the run. The preflight has passed: every server has its recovery point."""
    if not source_may_be_alive:
        pulumi.log.warn(
            "source may be alive: no shutdown of the source was confirmed, so two copies of a server could work at "
            "once. Remedy: switch the source off, then `pulumi config set dr:sourceMayBeAlive acknowledged`"
        )
    group = resources.ResourceGroup(
        blueprint.resource_group,
        resource_group_name=blueprint.resource_group,
        location=blueprint.location,
        tags=dict(blueprint.tags),
        opts=named(),
    )
    run = Run(blueprint, subscription, group)
    actions = Actions(blueprint, subscription)
    waiting_for: Sequence[pulumi.Resource] = []
    servers: list[pulumi.Output[Mapping[str, Any]]] = []
    for number, declared in enumerate(blueprint.groups, 1):
        points = {server.server: _point(run, server) for server in declared.servers}
        actions.enter(number, [(server, points[server.server]) for server in declared.servers])
        waiting_for = actions.chain(number, "before", declared.before, waiting_for)
        machines = {
            server.server: _server(run, server, points[server.server], waiting_for) for server in declared.servers
        }
        addresses = {server.server: server.address for server in declared.servers}
        checks = {
            check.name: _check(run, check, addresses[check.server], machines[check.server], points[check.server])
            for check in declared.checks
        }
        servers += [
            _summary(
                server, points[server.server], [checks[c.name] for c in declared.checks if c.server == server.server]
            )
            for server in declared.servers
        ]
        # A server without a check is waited for itself.
        unchecked = [machines[name] for name in machines if name not in {check.server for check in declared.checks}]
        waiting_for = actions.chain(number, "after", declared.after, [*checks.values(), *unchecked])
    pulumi.export("plan", blueprint.plan)
    pulumi.export("run", blueprint.run)
    pulumi.export("resourceGroup", group.name)
    pulumi.export("servers", servers)
    pulumi.export("steps", actions.summaries())


def _point(run: Run, server: RecoveredServerBlueprint) -> RecoveryPoint:
    return RecoveryPoint(
        f"point-{server.server}",
        subscription=run.subscription,
        account=run.blueprint.storage_account,
        server=server.server,
        plan=run.blueprint.plan,
        run=run.blueprint.run,
        selector=run.blueprint.selector,
        group=server.replication_group,
        opts=named(),
    )


def _server(
    run: Run, server: RecoveredServerBlueprint, point: RecoveryPoint, after: Sequence[pulumi.Resource]
) -> compute.VirtualMachine:
    tags: dict[str, pulumi.Input[str]] = {**server.tags, names.TAG_POINT: point.point_id}
    nic = network.NetworkInterface(
        server.nic,
        network_interface_name=server.nic,
        resource_group_name=run.group.name,
        location=run.blueprint.location,
        ip_configurations=[
            network.NetworkInterfaceIPConfigurationArgs(
                name="primary",
                primary=True,
                private_ip_address=server.address,
                private_ip_allocation_method="Static",
                subnet=network.SubnetArgs(id=f"/subscriptions/{run.subscription}{server.subnet_id_suffix}"),
            )
        ],
        tags=dict(server.tags),
        opts=named(),
    )
    disks = {disk.name: _disk(run, server, disk, point, tags) for disk in server.disks}
    return compute.VirtualMachine(
        server.virtual_machine,
        vm_name=server.virtual_machine,
        resource_group_name=run.group.name,
        location=run.blueprint.location,
        zones=_zones(server),
        hardware_profile=compute.HardwareProfileArgs(vm_size=server.size),
        capacity_reservation=_reserved(run, server),
        storage_profile=_storage_profile(server, disks),
        network_profile=compute.NetworkProfileArgs(
            network_interfaces=[compute.NetworkInterfaceReferenceArgs(id=nic.id, primary=True, delete_option="Detach")]
        ),
        diagnostics_profile=compute.DiagnosticsProfileArgs(
            boot_diagnostics=compute.BootDiagnosticsArgs(enabled=True)  # no account: Azure's own, managed
        ),
        tags=tags,
        opts=named(after=after, replaced_with=[nic, *disks.values()]),
    )


def _disk(
    run: Run,
    server: RecoveredServerBlueprint,
    disk: RecoveredDiskBlueprint,
    point: RecoveryPoint,
    tags: Mapping[str, pulumi.Input[str]],
) -> compute.Disk:
    copy = BlobCopy(
        f"copy-{server.server}-{disk.name}",
        subscription=run.subscription,
        account=run.blueprint.storage_account,
        source_container=names.REPLICAS,
        source_blob=point.blob(disk.name),
        snapshot=point.snapshot(disk.name),
        container=names.RUNS,
        blob=disk.copy_blob,
        opts=named(),
    )
    is_os_disk = disk.lun is None
    return compute.Disk(
        disk.managed_disk,
        disk_name=disk.managed_disk,
        resource_group_name=run.group.name,
        location=run.blueprint.location,
        creation_data=compute.CreationDataArgs(
            create_option="Import", source_uri=copy.url, storage_account_id=run.storage_account_id
        ),
        hyper_v_generation=server.generation if is_os_disk else None,
        os_type="Linux" if is_os_disk else None,
        zones=_zones(server),
        sku=compute.DiskSkuArgs(name=DISK_SKU),
        network_access_policy="DenyAll",
        public_network_access="Disabled",
        tags=dict(tags),
        opts=named(replaced_with=[copy]),
    )


def _zones(server: RecoveredServerBlueprint) -> list[str] | None:
    return None if server.zone is None else [server.zone]


def _reserved(run: Run, server: RecoveredServerBlueprint) -> compute.CapacityReservationProfileArgs | None:
    if server.capacity_group_id_suffix is None:
        return None
    group = compute.SubResourceArgs(id=f"/subscriptions/{run.subscription}{server.capacity_group_id_suffix}")
    return compute.CapacityReservationProfileArgs(capacity_reservation_group=group)


def _storage_profile(server: RecoveredServerBlueprint, disks: Mapping[str, compute.Disk]) -> compute.StorageProfileArgs:
    def managed(disk: RecoveredDiskBlueprint) -> compute.ManagedDiskParametersArgs:
        return compute.ManagedDiskParametersArgs(id=disks[disk.name].id)

    os_disk = next(disk for disk in server.disks if disk.lun is None)
    return compute.StorageProfileArgs(
        os_disk=compute.OSDiskArgs(
            create_option="Attach", os_type="Linux", managed_disk=managed(os_disk), delete_option="Detach"
        ),
        data_disks=[
            compute.DataDiskArgs(
                create_option="Attach", lun=disk.lun, managed_disk=managed(disk), delete_option="Detach"
            )
            for disk in server.disks
            if disk.lun is not None
        ],
    )


def _check(
    run: Run, check: CheckBlueprint, address: str, machine: compute.VirtualMachine, point: RecoveryPoint
) -> HealthCheck:
    return HealthCheck(
        check.name,
        subscription=run.subscription,
        resource_group=run.group.name,
        vm_name=machine.name,
        address=address,
        check=check,
        # Its own id, not the resource's: a machine that was made anew under its old name is asked anew.
        triggers=[machine.vm_id, point.point_id],
        opts=named(replaced_with=[machine]),
    )


def _summary(
    server: RecoveredServerBlueprint, point: RecoveryPoint, checks: Sequence[HealthCheck]
) -> pulumi.Output[Mapping[str, Any]]:
    return pulumi.Output.all(
        server=server.server,
        vm=server.virtual_machine,
        address=server.address,
        point=point.point_id,
        cutTime=point.cut_time,
        checks=[{"endpoint": check.endpoint, "passedAt": check.passed_at} for check in checks],
    )
