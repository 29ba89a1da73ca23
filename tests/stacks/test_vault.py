"""The vault's program under Pulumi's mocks: rights, locks, keys, and the job that alone may delete.

What a role forbids can't be tried here: Azurite knows no roles. So the rights are asserted against the table that the
signatures of target local are made from, and those are tried on Azurite (`tests/vault/test_access.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from dr import compile as compiler
from dr.compile import names
from dr.compile.blueprint import Identities
from dr.errors import Refused
from dr.schema import load
from dr.target import access
from stacks import dispatch, site, vault
from tests.request_schemas.estates import SUBSCRIPTION
from tests.stacks.mocked import MADE, Recorder, Run, mocked

CHECKOUT = Path(__file__).parents[2]
LETTERS = {"r": "/blobs/read", "c": "/blobs/add/action", "w": "/blobs/write", "d": "/blobs/delete"}
BUILT_IN = "Microsoft.Authorization/roleDefinitions/b86a8fe4-44ce-4948-aee5-eccb2c155cd7"


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with mocked() as program:
        yield program


def declaration(folder: Path, endpoints: str) -> Any:
    for path in (CHECKOUT / "plans").glob("*.yaml"):
        (folder / path.name).write_text(path.read_text())
    text = (folder / "site.yaml").read_text()
    (folder / "site.yaml").write_text(f"{text}\nendpoints: {endpoints}\n")
    return load(folder)


@pytest.fixture(scope="module")
def public(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    declared = declaration(tmp_path_factory.mktemp("public"), "public")
    identities = Identities("tenant", "site-object", "operator-object", "lifeboat.azurecr.io/lifeboat:0.1.0")
    return run(lambda: vault.program(compiler.vault(declared, SUBSCRIPTION, identities), SUBSCRIPTION))


@pytest.fixture(scope="module")
def private(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    declared = declaration(tmp_path_factory.mktemp("private"), "private")
    return run(lambda: vault.program(compiler.vault(declared, SUBSCRIPTION), SUBSCRIPTION))


def rights(made: Recorder) -> dict[str, dict[str, set[str]]]:
    """Return holder -> container -> letters, as the roles and their assignments say."""
    roles = {
        f"/id/{name}": {letter for letter, end in LETTERS.items() if f"Microsoft.Storage{_CONTAINERS}{end}" in allowed}
        for name, role in made.of("azure-native:authorization:RoleDefinition").items()
        for allowed in [role["permissions"][0]["dataActions"]]
    }
    found: dict[str, dict[str, set[str]]] = {}
    for each in made.of("azure-native:authorization:RoleAssignment").values():
        if each["roleDefinitionId"] in roles:
            container = each["scope"].rpartition("/blobServices/default/containers/")[2]
            found.setdefault(each["principalId"], {})[container] = roles[each["roleDefinitionId"]]
    return found


_CONTAINERS = "/storageAccounts/blobServices/containers"


def test_the_roles_are_the_table_of_the_signatures(public: Recorder) -> None:
    retention = MADE["azure-native:managedidentity:UserAssignedIdentity"]["principalId"]
    found = rights(public)
    assert set(found) == {"site-object", "operator-object", retention}
    # Listing is reading, where there are roles; and only the operator's Pulumi state has a container of its own.
    table = {"site-object": access.SITE, "operator-object": access.OPERATOR, retention: access.RETENTION}
    for holder, letters in table.items():
        wanted = {container: set(allowed) - {"l"} for container, allowed in letters.items()}
        assert {c: got for c, got in found[holder].items() if c != names.STATE} == wanted, holder
    assert [holder for holder, rights in found.items() if names.STATE in rights] == ["operator-object"]


def test_the_pages_say_what_the_stack_gives(public: Recorder) -> None:
    found = rights(public)
    retention = MADE["azure-native:managedidentity:UserAssignedIdentity"]["principalId"]
    head, *rows = table(CHECKOUT / "docs/vault.md", "who")
    containers = [cell.strip("`") for cell in head[1:]]
    for row, holder in zip(rows, ("site-object", "operator-object", retention), strict=False):
        said = {container: set(cell.split()) - {"l", "-"} for container, cell in zip(containers, row[1:], strict=True)}
        assert {container: letters for container, letters in said.items() if letters} == found[holder], row[0]
    _, *rows = table(CHECKOUT / "docs/azure.md", "role")
    given: dict[str, set[str]] = {}
    for role, where in rows:
        for container in where.split("`")[1::2]:
            given[container] = set("r" if role == "Lifeboat SITE reader" else "rcwd")
    assert given == found["operator-object"]
    assert [where for role, where in rows if role == "Key Vault Secrets Officer"] == ["Key Vault of the vault stack"]


def test_every_rule_of_the_service_has_its_source() -> None:
    head, *rows = table(CHECKOUT / "docs/azure.md", "rule")
    assert head == ["rule", "what follows here", "source"]
    assert len(rows) > 20
    assert [row for row in rows if len(row) != 3 or not all(row)] == []


def table(page: Path, first: str) -> list[list[str]]:
    """Return the cells of the table of a page whose head begins so, without the line below the head."""
    lines = page.read_text().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    rows = takewhile(lambda line: line.startswith("|"), lines[begin:])
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return [cells[0], *cells[2:]]


def test_no_role_may_do_anything_but_touch_blobs(public: Recorder) -> None:
    for role in public.of("azure-native:authorization:RoleDefinition").values():
        (permission,) = role["permissions"]
        assert permission["actions"] == []
        assert all(action.startswith(f"Microsoft.Storage{_CONTAINERS}/blobs/") for action in permission["dataActions"])
        assert role["assignableScopes"] == [role["scope"]] == ["/id/rg-lifeboat-harbour-vault"]
    others = [
        each
        for each in public.of("azure-native:authorization:RoleAssignment").values()
        if each["roleDefinitionId"].endswith(BUILT_IN)
    ]
    assert [(each["principalId"], each["principalType"]) for each in others] == [("operator-object", "Group")]


def test_manifests_are_immutable_and_deletions_are_kept(public: Recorder) -> None:
    (policy,) = public.of("azure-native:storage:BlobContainerImmutabilityPolicy").values()
    assert (policy["containerName"], policy["immutabilityPeriodSinceCreationInDays"]) == ("manifests", 1)
    assert policy["allowProtectedAppendWrites"] is False
    (service,) = public.of("azure-native:storage:BlobServiceProperties").values()
    for kept in ("deleteRetentionPolicy", "containerDeleteRetentionPolicy"):
        assert service[kept] == {"enabled": True, "days": 14}


def test_the_key_vault_cannot_be_purged(public: Recorder) -> None:
    ((name, key_vault),) = public.of("azure-native:keyvault:Vault").items()
    assert 3 <= len(name) <= 24
    properties = key_vault["properties"]
    assert properties["tenantId"] == "tenant"
    for on in ("enablePurgeProtection", "enableSoftDelete", "enableRbacAuthorization"):
        assert properties[on] is True
    assert len(public.of("azure-native:keyvault:Key")) == 1


def test_deletion_runs_in_azure_under_its_own_identity(public: Recorder) -> None:
    (job,) = public.of("azure-native:app:Job").values()
    (identity,) = public.of("azure-native:managedidentity:UserAssignedIdentity")
    assert job["identity"]["userAssignedIdentities"] == [f"/id/{identity}"]
    assert job["configuration"]["triggerType"] == "Schedule"
    (container,) = job["template"]["containers"]
    assert container["args"][0] == "retention"
    assert container["image"] == "lifeboat.azurecr.io/lifeboat:0.1.0"
    assert job["configuration"]["registries"] == [{"server": "lifeboat.azurecr.io", "identity": f"/id/{identity}"}]
    client = MADE["azure-native:managedidentity:UserAssignedIdentity"]["clientId"]
    assert container["env"] == [{"name": "AZURE_CLIENT_ID", "value": client}]


def test_everything_is_locked_protected_and_kept(public: Recorder, private: Recorder) -> None:
    for made in (public, private):
        (lock,) = made.of("azure-native:authorization:ManagementLockByScope").values()
        assert (lock["level"], lock["scope"]) == ("CanNotDelete", "/id/rg-lifeboat-harbour-vault")
        requests = [*made.options("azure-native:"), *made.options("dr:index:")]
        assert len(requests) > 30
        for request in requests:
            assert request.protect, request.name
            assert request.retainOnDelete, request.name


def test_the_lock_goes_before_everything_that_it_locks(public: Recorder, private: Recorder) -> None:
    """Pulumi deletes first what depends on others: the lock has to depend on each resource, directly or not."""
    for made in (public, private):
        requests = {request.name: request for request in made.requests}
        (lock,) = made.options("azure-native:authorization:ManagementLockByScope")
        reached: set[str] = set()
        todo = [lock.name]
        while todo:
            name = todo.pop()
            below = {urn.rpartition("::")[2] for urn in requests[name].dependencies} - reached
            reached |= below
            todo += below
        ours = {request.name for request in requests.values() if not request.type.startswith("pulumi:")}
        assert ours - reached == {lock.name}


def test_only_the_word_of_dr_vault_destroy_takes_the_protection_away(run: Run) -> None:
    blueprint = compiler.vault(load(CHECKOUT / "plans"), SUBSCRIPTION)
    made = run(lambda: vault.program(blueprint, SUBSCRIPTION, ending=True))
    for request in [*made.options("azure-native:"), *made.options("dr:index:")]:
        assert not request.protect, request.name
        assert not request.retainOnDelete, request.name


def test_private_endpoints_close_the_account_and_give_the_job_a_way(private: Recorder, public: Recorder) -> None:
    (account,) = private.of("azure-native:storage:StorageAccount").values()
    assert account["publicNetworkAccess"] == "Disabled"
    (key_vault,) = private.of("azure-native:keyvault:Vault").values()
    assert key_vault["properties"]["publicNetworkAccess"] == "Disabled"
    assert account["networkRuleSet"]["defaultAction"] == "Deny"
    (endpoint,) = private.of("azure-native:network:PrivateEndpoint").values()
    (connection,) = endpoint["privateLinkServiceConnections"]
    assert connection["groupIds"] == ["blob"]
    account_name = names.storage_account("harbour", SUBSCRIPTION)
    assert connection["privateLinkServiceId"].endswith(f"/storageAccounts/{account_name}")
    (zone,) = private.of("azure-native:privatedns:PrivateZone").values()
    assert zone["privateZoneName"] == "privatelink.blob.core.windows.net"
    (environment,) = private.of("azure-native:app:ManagedEnvironment").values()
    assert environment["vnetConfiguration"]["internal"] is True
    assert not public.of("azure-native:network:PrivateEndpoint")
    (open_account,) = public.of("azure-native:storage:StorageAccount").values()
    assert open_account["publicNetworkAccess"] == "Enabled"


def test_the_sites_endpoint_is_the_sites_and_needs_nothing_of_the_vaults_state(run: Run, tmp_path: Path) -> None:
    declared = declaration(tmp_path, "private")
    made = run(lambda: site.program(compiler.site(declared, SUBSCRIPTION), SUBSCRIPTION))
    subnet = f"/subscriptions/{SUBSCRIPTION}{names.subnet_id_suffix(declared.site, 'shop')}"
    ways = {}
    for endpoint in made.of("azure-native:network:PrivateEndpoint").values():
        assert endpoint["resourceGroupName"] == names.site_resource_group(declared.site)
        assert endpoint["subnet"]["id"] == subnet
        (connection,) = endpoint["privateLinkServiceConnections"]
        ways[connection["groupIds"][0]] = connection["privateLinkServiceId"]
    assert ways == {
        "blob": names.storage_account_id(declared.site, SUBSCRIPTION),
        "vault": names.key_vault_id(declared.site, SUBSCRIPTION),
    }
    for request in made.options("azure-native:network:PrivateEndpoint"):
        assert not request.protect


def test_what_the_directory_has_to_give_is_asked_for_all_at_once(run: Run) -> None:
    def ask() -> None:
        dispatch.identities()

    with pytest.raises(Refused) as refused:
        run(ask)
    for key in ("tenant", "sitePrincipal", "operatorPrincipal", "retentionImage"):
        assert f"dr:{key} " in refused.value.message
