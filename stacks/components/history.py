"""The storage account and its containers: where replicas and recovery points lie."""

from __future__ import annotations

import pulumi
from pulumi_azure_native import resources, storage

from dr.compile.blueprint import VaultBlueprint
from stacks.options import kept

DELETED_KEPT_DAYS = 14
# The shortest that Azure knows. Longer would keep the manifests of points that the policy thins out, and listing
# a point whose snapshots are gone is worse than none.
IMMUTABLE_DAYS = 1


def history(
    blueprint: VaultBlueprint, group: resources.ResourceGroup, *, ending: bool
) -> tuple[storage.StorageAccount, list[pulumi.Resource]]:
    """Declare account and containers; return the account, and what must stand before anybody is let in."""
    account = _account(blueprint, group, ending=ending)
    return account, _containers(blueprint, group, account, ending=ending)


def _account(blueprint: VaultBlueprint, group: resources.ResourceGroup, *, ending: bool) -> storage.StorageAccount:
    # Standard: any number of snapshots per page blob (premium has 100). No hierarchical namespace: it has no page
    # blobs.
    closed = blueprint.network is not None
    return storage.StorageAccount(
        blueprint.storage_account,
        account_name=blueprint.storage_account,
        resource_group_name=group.name,
        location=blueprint.location,
        kind=storage.Kind.STORAGE_V2,
        sku=storage.SkuArgs(name=f"Standard_{blueprint.redundancy}"),
        access_tier=storage.AccessTier.HOT,
        allow_blob_public_access=False,
        allow_cross_tenant_replication=False,
        allow_shared_key_access=False,
        enable_https_traffic_only=True,
        is_hns_enabled=False,
        is_local_user_enabled=False,
        minimum_tls_version=storage.MinimumTlsVersion.TLS1_2,
        public_network_access="Disabled" if closed else "Enabled",
        # The services that Azure trusts: managed disks are imported by one of them.
        network_rule_set=storage.NetworkRuleSetArgs(
            default_action=storage.DefaultAction.DENY if closed else storage.DefaultAction.ALLOW, bypass="AzureServices"
        ),
        tags=dict(blueprint.tags),
        opts=kept(ending=ending),
    )


def _containers(
    blueprint: VaultBlueprint, group: resources.ResourceGroup, account: storage.StorageAccount, *, ending: bool
) -> list[pulumi.Resource]:
    retention = storage.DeleteRetentionPolicyArgs(enabled=True, days=DELETED_KEPT_DAYS)
    service = storage.BlobServiceProperties(
        f"{blueprint.storage_account}-blobs",
        account_name=account.name,
        resource_group_name=group.name,
        blob_services_name="default",
        delete_retention_policy=retention,
        container_delete_retention_policy=retention,
        opts=kept(ending=ending),
    )
    made: list[pulumi.Resource] = []
    for name in blueprint.containers:
        container = storage.BlobContainer(
            name,
            container_name=name,
            account_name=account.name,
            resource_group_name=group.name,
            public_access=storage.PublicAccess.NONE,
            opts=kept(after=[service], ending=ending),
        )
        made.append(container)
        if name == blueprint.immutable_container:
            made.append(
                storage.BlobContainerImmutabilityPolicy(
                    f"{name}-immutable",
                    account_name=account.name,
                    container_name=container.name,
                    resource_group_name=group.name,
                    immutability_policy_name="default",
                    immutability_period_since_creation_in_days=IMMUTABLE_DAYS,
                    allow_protected_append_writes=False,
                    opts=kept(ending=ending),
                )
            )
    return made
