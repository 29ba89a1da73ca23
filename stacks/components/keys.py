"""The Key Vault: the site's secrets (its CA's key among them) and one key, both behind purge protection."""

from __future__ import annotations

import pulumi
from pulumi_azure_native import authorization, keyvault, resources

from dr.compile import names
from dr.compile.blueprint import VaultBlueprint
from stacks.options import kept

DELETED_KEPT_DAYS = 90
# Azure's own role "Key Vault Secrets Officer".
SECRETS_OFFICER = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7"


def keys(
    blueprint: VaultBlueprint, group: resources.ResourceGroup, subscription: str, *, ending: bool
) -> list[pulumi.Resource]:
    """Declare the Key Vault, its key, and that operators may read and write its secrets; return all three."""
    vault = keyvault.Vault(
        blueprint.key_vault,
        vault_name=blueprint.key_vault,
        resource_group_name=group.name,
        location=blueprint.location,
        properties=keyvault.VaultPropertiesArgs(
            tenant_id=blueprint.identities.tenant,
            sku=keyvault.SkuArgs(family=keyvault.SkuFamily.A, name=keyvault.SkuName.STANDARD),
            enable_rbac_authorization=True,
            enable_soft_delete=True,
            enable_purge_protection=True,
            soft_delete_retention_in_days=DELETED_KEPT_DAYS,
            public_network_access="Enabled" if blueprint.network is None else "Disabled",
        ),
        tags=dict(blueprint.tags),
        opts=kept(ending=ending),
    )
    key = keyvault.Key(
        blueprint.wrapping_key,
        key_name=blueprint.wrapping_key,
        vault_name=vault.name,
        resource_group_name=group.name,
        properties=keyvault.KeyPropertiesArgs(kty="RSA", key_size=3072, key_ops=["wrapKey", "unwrapKey"]),
        tags=dict(blueprint.tags),
        opts=kept(ending=ending),
    )
    officer = f"/subscriptions/{subscription}/providers/Microsoft.Authorization/roleDefinitions/{SECRETS_OFFICER}"
    officers = authorization.RoleAssignment(
        "operator-secrets",
        role_assignment_name=names.assignment(SECRETS_OFFICER, blueprint.key_vault, "operator"),
        scope=vault.id,
        role_definition_id=officer,
        principal_id=blueprint.identities.operator_principal,
        principal_type="Group",
        opts=kept(ending=ending),
    )
    return [vault, key, officers]
