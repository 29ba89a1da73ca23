"""Blueprints of what stands before a disaster: the vault and the site. Pure."""

from __future__ import annotations

from dr.compile import names
from dr.compile.blueprint import (
    DiskBlueprint,
    ProtectionBlueprint,
    SiteBlueprint,
    VaultBlueprint,
)
from dr.compile.zone import zone
from dr.model import Declaration, Server


def vault(declaration: Declaration, subscription: str) -> VaultBlueprint:
    """Return the vault's blueprint; `subscription` is the id that the stack's target deploys to."""
    site = declaration.site
    return VaultBlueprint(
        resource_group=names.vault_resource_group(site),
        location=site.location,
        recovery_vault=names.recovery_vault(site.name),
        storage_account=names.storage_account(site.name, subscription),
        containers=names.CONTAINERS,
        certificate_authority=names.certificate_authority(site.name),
        tags={names.TAG_SITE: site.name},
    )


def site(declaration: Declaration, subscription: str) -> SiteBlueprint:
    """Return the site's blueprint: landing zone, listeners, and the protection of each server."""
    declared = declaration.site
    return SiteBlueprint(
        site=declared.name,
        resource_group=names.site_resource_group(declared),
        location=declared.location,
        zone=zone(declaration),
        storage_account=names.storage_account(declared.name, subscription),
        certificate_authority=names.certificate_authority(declared.name),
        configuration_server=_end(declared.configuration_server.address, declared.configuration_server.port),
        process_servers=tuple((p.name, _end(p.address, p.port)) for p in declared.process_servers),
        protections=tuple(_protection(declaration, declaration.servers[name]) for name in sorted(declaration.servers)),
        tags={names.TAG_SITE: declared.name},
    )


def _protection(declaration: Declaration, server: Server) -> ProtectionBlueprint:
    policy = declaration.policies[server.policy]
    configuration = declaration.site.configuration_server
    return ProtectionBlueprint(
        server=server.name,
        ssh=server.ssh,
        disks=tuple(
            DiskBlueprint(
                name=disk.name,
                device=disk.device,
                replica=names.replica_blob(server.name, disk.name),
                digests=names.digests_blob(server.name, disk.name),
            )
            for disk in server.disks
        ),
        process_servers=tuple(_end(p.address, p.port) for p in declaration.site.process_servers),
        configuration_server=_end(configuration.address, configuration.port),
        crash_consistent_seconds=policy.crash_consistent_seconds,
        rpo_threshold_seconds=policy.rpo_threshold_seconds,
        retention_seconds=policy.retention_seconds,
        traffic=policy.traffic,
        firmware=server.target.firmware.value,
    )


def _end(address: str, port: int) -> str:
    return f"{address}:{port}"
