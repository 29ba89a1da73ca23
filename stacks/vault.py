"""The stack `vault-TARGET`: what keeps the recovery points, and outlives everything else.

Every resource is protected and retained: `destroy` is refused, and what leaves the declaration stays. The lock on the
resource group keeps also those out who come without Pulumi. `ending` is the word of `dr vault destroy`.
"""

from __future__ import annotations

import pulumi
from pulumi_azure_native import authorization, recoveryservices, resources

from dr.compile import names
from dr.compile.blueprint import VaultBlueprint
from stacks.components.history import history
from stacks.components.keys import keys
from stacks.components.retention_job import retention_identity, retention_job
from stacks.components.rights import rights
from stacks.components.vault_network import vault_network
from stacks.options import kept
from stacks.resources import CertificateAuthority


def program(blueprint: VaultBlueprint, subscription: str, *, ending: bool = False) -> None:
    """Declare Recovery Services vault, storage, keys, roles, the retention job, the site's CA and the lock."""
    group = resources.ResourceGroup(
        blueprint.resource_group,
        resource_group_name=blueprint.resource_group,
        location=blueprint.location,
        tags=dict(blueprint.tags),
        opts=kept(ending=ending),
    )
    recovery = recoveryservices.Vault(
        blueprint.recovery_vault,
        vault_name=blueprint.recovery_vault,
        resource_group_name=group.name,
        location=blueprint.location,
        sku=recoveryservices.SkuArgs(name="RS0", tier="Standard"),
        properties=recoveryservices.VaultPropertiesArgs(
            public_network_access="Enabled" if blueprint.network is None else "Disabled"
        ),
        tags=dict(blueprint.tags),
        opts=kept(ending=ending),
    )
    account, containers = history(blueprint, group, ending=ending)
    secrets = keys(blueprint, group, subscription, ending=ending)
    identity = retention_identity(blueprint, group, ending=ending)
    granted = rights(blueprint, group, account, identity, after=containers, ending=ending)
    subnet: pulumi.Output[str] | None = None
    ways: list[pulumi.Resource] = []
    if blueprint.network is not None:
        subnet, ways = vault_network(blueprint, blueprint.network, group, after=[account], ending=ending)
    job = retention_job(blueprint, group, identity, subnet, after=[*containers, *ways], ending=ending)
    authority = CertificateAuthority(
        blueprint.certificate_authority,
        authority=blueprint.certificate_authority,
        site=blueprint.tags[names.TAG_SITE],
        subscription=subscription,
        opts=kept(after=[account, *secrets], ending=ending),
    )
    authorization.ManagementLockByScope(
        blueprint.lock,
        lock_name=blueprint.lock,
        scope=group.id,
        level="CanNotDelete",
        notes="Lifeboat: the last copy of the site's servers. `dr vault destroy` takes this lock away, nothing else.",
        # Last, so that `dr vault destroy` takes it away first: nothing in the group can be deleted before.
        opts=kept(after=[recovery, *containers, *secrets, *granted, *ways, job, authority], ending=ending),
    )
    pulumi.export("storageAccount", account.name)
    pulumi.export("certificate", authority.certificate)
