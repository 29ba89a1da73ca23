"""Who may do what in the vault's containers: custom roles, each letter of `dr.target.access` a data action.

The site's servers never get the right to delete, and none to write where the manifests are: a blob that exists can't
be overwritten by somebody who may only add. Nobody but the retention identity may delete a recovery point.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pulumi
from pulumi_azure_native import authorization, managedidentity, resources, storage

from dr.compile import names
from dr.compile.blueprint import VaultBlueprint
from stacks.options import kept

_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
READ, ADD, WRITE, DELETE = f"{_BLOBS}/read", f"{_BLOBS}/add/action", f"{_BLOBS}/write", f"{_BLOBS}/delete"
ALLOWED: Mapping[str, Sequence[str]] = {
    "reader": (READ,),
    "creator": (READ, ADD),
    "writer": (READ, ADD, WRITE),
    "deleter": (READ, DELETE),
    "keeper": (READ, ADD, WRITE, DELETE),
}
KINDS = {"site": "ServicePrincipal", "operator": "Group", "retention": "ServicePrincipal"}


def rights(
    blueprint: VaultBlueprint,
    group: resources.ResourceGroup,
    account: storage.StorageAccount,
    retention: managedidentity.UserAssignedIdentity,
    *,
    after: Sequence[pulumi.Resource],
    ending: bool,
) -> list[pulumi.Resource]:
    """Declare the roles and give them to the site's servers, to operators and to the retention identity.

    Return the assignments.
    """
    site = blueprint.tags[names.TAG_SITE]
    roles = {
        word: authorization.RoleDefinition(
            f"role-{word}",
            role_definition_id=role_id,
            role_name=f"Lifeboat {site} {word}",
            description=f"Lifeboat, site {site}: {', '.join(action.split('/blobs/')[1] for action in ALLOWED[word])}",
            role_type="CustomRole",
            scope=group.id,
            assignable_scopes=[group.id],
            permissions=[authorization.PermissionArgs(actions=[], data_actions=list(ALLOWED[word]))],
            opts=kept(ending=ending),
        )
        for word, role_id in blueprint.roles.items()
    }
    principals: Mapping[str, pulumi.Input[str]] = {
        "site": blueprint.identities.site_principal,
        "operator": blueprint.identities.operator_principal,
        "retention": retention.principal_id,
    }
    return [
        authorization.RoleAssignment(
            f"{grant.holder}-{grant.container}",
            role_assignment_name=grant.name,
            scope=pulumi.Output.concat(account.id, "/blobServices/default/containers/", grant.container),
            role_definition_id=roles[grant.role].id,
            principal_id=principals[grant.holder],
            principal_type=KINDS[grant.holder],
            opts=kept(after=after, ending=ending),
        )
        for grant in blueprint.grants
    ]
