"""Blueprints of what stands before a disaster: the vault and the site. Pure."""

from __future__ import annotations

from dr.compile import names
from dr.compile.blueprint import (
    DiskBlueprint,
    GrantBlueprint,
    Identities,
    MembershipBlueprint,
    PrivateEndpointBlueprint,
    ProtectionBlueprint,
    SiteBlueprint,
    VaultBlueprint,
    VaultNetworkBlueprint,
)
from dr.compile.zone import zone
from dr.model import Declaration, Endpoints, Server, Site

NOBODY = Identities(
    tenant="00000000-10ca-4000-8000-000000000001",
    site_principal="00000000-10ca-4000-8000-000000000002",
    operator_principal="00000000-10ca-4000-8000-000000000003",
    retention_image="lifeboat:local",
)
"""What target local has for a directory."""

# Peered with nobody, so that it can be the same for every site.
VAULT_PREFIX, JOB_PREFIX, ENDPOINT_PREFIX = "192.168.255.0/24", "192.168.255.0/25", "192.168.255.128/28"

# The table of `dr.target.access` as roles: reader r, creator r c, writer r c w, deleter r d, keeper r c w d.
_GRANTS = (
    ("site", "writer", names.REPLICAS),
    ("site", "creator", names.MANIFESTS),
    ("site", "reader", names.RETENTION),
    ("site", "creator", names.REGISTER),
    ("operator", "reader", names.REPLICAS),
    ("operator", "reader", names.MANIFESTS),
    ("operator", "reader", names.REGISTER),
    ("operator", "keeper", names.RUNS),
    ("operator", "keeper", names.STATE),
    ("operator", "keeper", names.RETENTION),
    ("retention", "deleter", names.REPLICAS),
    ("retention", "deleter", names.MANIFESTS),
    ("retention", "reader", names.RUNS),
    ("retention", "reader", names.RETENTION),
    ("retention", "keeper", names.OBSERVED),
)


def vault(declaration: Declaration, subscription: str, identities: Identities = NOBODY) -> VaultBlueprint:
    """Return the vault's blueprint; `subscription` is the id that the stack's target deploys to."""
    site = declaration.site
    roles = {word: names.role(site.name, subscription, word) for word in sorted({role for _, role, _ in _GRANTS})}
    return VaultBlueprint(
        resource_group=names.vault_resource_group(site),
        location=site.location,
        recovery_vault=names.recovery_vault(site.name),
        storage_account=names.storage_account(site.name, subscription),
        redundancy=site.storage.redundancy.value,
        containers=names.CONTAINERS,
        immutable_container=names.MANIFESTS,
        key_vault=names.key_vault(site.name, subscription),
        wrapping_key=names.wrapping_key(site.name),
        certificate_authority=names.certificate_authority(site.name),
        roles=roles,
        grants=tuple(
            GrantBlueprint(names.assignment(roles[role], container, holder), holder, role, container)
            for holder, role, container in _GRANTS
        ),
        identities=identities,
        retention_identity=names.retention_identity(site.name),
        retention_environment=names.retention_environment(site.name),
        retention_job=names.retention_job(site.name, subscription),
        lock=names.delete_lock(site.name),
        network=_vault_network(site, subscription) if site.endpoints is Endpoints.PRIVATE else None,
        tags={names.TAG_SITE: site.name},
    )


def _vault_network(site: Site, subscription: str) -> VaultNetworkBlueprint:
    name, subnet = names.vault_network(site.name), "endpoints"
    group = names.vault_resource_group(site)
    suffix = f"/resourceGroups/{group}/providers/Microsoft.Network/virtualNetworks/{name}/subnets/{subnet}"
    return VaultNetworkBlueprint(
        name=name,
        prefix=VAULT_PREFIX,
        job_subnet="retention",
        job_prefix=JOB_PREFIX,
        endpoint_subnet=subnet,
        endpoint_prefix=ENDPOINT_PREFIX,
        endpoint=_blob_endpoint(site, subscription, "vault", suffix),
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
        vault_endpoints=_site_endpoints(declared, subscription) if declared.endpoints is Endpoints.PRIVATE else (),
    )


def _site_endpoints(site: Site, subscription: str) -> tuple[PrivateEndpointBlueprint, ...]:
    """The site's ways to the vault lie in the site's network and go with it; the vault never knows of them."""
    suffix = names.subnet_id_suffix(site, site.network.subnets[0].name)
    keys = PrivateEndpointBlueprint(
        name=names.vault_endpoint(site.name, "site", "vault"),
        target_id=names.key_vault_id(site, subscription),
        part="vault",
        zone="privatelink.vaultcore.azure.net",
        subnet_id_suffix=suffix,
    )
    return _blob_endpoint(site, subscription, "site", suffix), keys


def _blob_endpoint(site: Site, subscription: str, place: str, suffix: str) -> PrivateEndpointBlueprint:
    return PrivateEndpointBlueprint(
        name=names.vault_endpoint(site.name, place, "blob"),
        target_id=names.storage_account_id(site, subscription),
        part="blob",
        zone="privatelink.blob.core.windows.net",
        subnet_id_suffix=suffix,
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
        verify_seconds=policy.verify_seconds,
        firmware=server.target.firmware.value,
        group=_membership(server),
        applications=server.applications,
        # A point for which nobody was asked is crash-consistent, whatever the policy says.
        app_consistent_seconds=policy.app_consistent_seconds if server.applications else None,
    )


def _membership(server: Server) -> MembershipBlueprint | None:
    if server.group is None:
        return None
    address = _end(server.group_address or server.ssh.address, server.group_port)
    return MembershipBlueprint(server.group, address, server.group_port)


def _end(address: str, port: int) -> str:
    return f"{address}:{port}"
