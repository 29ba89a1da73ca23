"""The stack `vault-TARGET`: what keeps the recovery points, and outlives everything else."""

from __future__ import annotations

import pulumi
from pulumi_azure_native import recoveryservices, resources, storage

from dr.compile import names
from dr.compile.blueprint import VaultBlueprint
from stacks.options import kept
from stacks.resources import CertificateAuthority

DELETED_KEPT_DAYS = 14


def program(blueprint: VaultBlueprint, subscription: str) -> None:
    """Declare Recovery Services vault, storage account, containers and the site's CA; all of it protected."""
    group = resources.ResourceGroup(
        blueprint.resource_group,
        resource_group_name=blueprint.resource_group,
        location=blueprint.location,
        tags=dict(blueprint.tags),
        opts=kept(),
    )
    recoveryservices.Vault(
        blueprint.recovery_vault,
        vault_name=blueprint.recovery_vault,
        resource_group_name=group.name,
        location=blueprint.location,
        sku=recoveryservices.SkuArgs(name="RS0", tier="Standard"),
        properties=recoveryservices.VaultPropertiesArgs(public_network_access="Enabled"),
        tags=dict(blueprint.tags),
        opts=kept(),
    )
    account = _account(blueprint, group)
    _containers(blueprint, group, account)
    authority = CertificateAuthority(
        blueprint.certificate_authority,
        authority=blueprint.certificate_authority,
        site=blueprint.tags[names.TAG_SITE],
        subscription=subscription,
        opts=kept(after=[account]),
    )
    pulumi.export("storageAccount", account.name)
    pulumi.export("certificate", authority.certificate)


def _account(blueprint: VaultBlueprint, group: resources.ResourceGroup) -> storage.StorageAccount:
    # Standard: any number of snapshots per page blob (premium has 100). Locally redundant: the account lies in
    # another place than the site, and zones do not exist in every region. No hierarchical namespace: it has no
    # page blobs.
    return storage.StorageAccount(
        blueprint.storage_account,
        account_name=blueprint.storage_account,
        resource_group_name=group.name,
        location=blueprint.location,
        kind=storage.Kind.STORAGE_V2,
        sku=storage.SkuArgs(name=storage.SkuName.STANDARD_LRS),
        access_tier=storage.AccessTier.HOT,
        allow_blob_public_access=False,
        allow_cross_tenant_replication=False,
        allow_shared_key_access=False,
        enable_https_traffic_only=True,
        is_hns_enabled=False,
        is_local_user_enabled=False,
        minimum_tls_version=storage.MinimumTlsVersion.TLS1_2,
        tags=dict(blueprint.tags),
        opts=kept(),
    )


def _containers(blueprint: VaultBlueprint, group: resources.ResourceGroup, account: storage.StorageAccount) -> None:
    retention = storage.DeleteRetentionPolicyArgs(enabled=True, days=DELETED_KEPT_DAYS)
    service = storage.BlobServiceProperties(
        f"{blueprint.storage_account}-blobs",
        account_name=account.name,
        resource_group_name=group.name,
        blob_services_name="default",
        delete_retention_policy=retention,
        container_delete_retention_policy=retention,
        opts=kept(),
    )
    for container in blueprint.containers:
        storage.BlobContainer(
            container,
            container_name=container,
            account_name=account.name,
            resource_group_name=group.name,
            public_access=storage.PublicAccess.NONE,
            opts=kept(after=[service]),
        )
