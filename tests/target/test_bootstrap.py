"""What `dr bootstrap` makes in Azure, against an Azure that is played; and its requests against Azure's own models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dr.compile import names
from dr.errors import Conflict, LifeboatError, NotFound, Refused, Unreachable
from dr.schema import load
from dr.target.backend import backend_of
from dr.target.bootstrap import Operator, Step, carry_out, differences, operator_of, steps, tenant_of
from tests.request_schemas.problems import problems
from tests.request_schemas.releases import request_of
from tests.target.fake_azure import PERSON, TENANT, FakeAzure

SUBSCRIPTION = "3f2b1c5e-7a64-4c1d-9d5b-0a1b2c3d4e5f"
SITE = replace(load(Path(__file__).parents[2] / "plans").site, subscription=SUBSCRIPTION)
WHO = (Operator(PERSON, "User"), Operator("11111111-2222-3333-4444-555555555555"))
TYPES = {
    "resourcegroups": "resources:ResourceGroup",
    "storageaccounts": "storage:StorageAccount",
    "blobservices": "storage:BlobServiceProperties",
    "containers": "storage:BlobContainer",
    "vaults": "keyvault:Vault",
    "keys": "keyvault:Key",
    "roleassignments": "authorization:RoleAssignment",
    "locks": "authorization:ManagementLockByScope",
}


@pytest.fixture
def azure() -> FakeAzure:
    return FakeAzure(SUBSCRIPTION)


def run(azure: FakeAzure, *, dry_run: bool = False) -> list[str]:
    resources = azure.azure().resources(SUBSCRIPTION)
    wanted = steps(SITE, SUBSCRIPTION, tenant_of(resources, SUBSCRIPTION), WHO)
    return [carry_out(step, resources, dry_run=dry_run) for step in wanted]


def kept(azure: FakeAzure) -> str:
    return json.dumps(azure.resources, sort_keys=True)


def test_the_first_run_makes_all_and_the_second_changes_nothing(azure: FakeAzure) -> None:
    assert set(run(azure)) == {"made"}
    group = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{names.state_resource_group('harbour')}".lower()
    types = {type_of(one["id"]) for one in azure.resources.values()}
    assert types == set(TYPES)
    assert all(name.startswith(group) for name in azure.resources)
    before, azure.asked = kept(azure), []
    assert set(run(azure)) == {"there"}
    assert kept(azure) == before
    assert {request.split()[0] for request in azure.asked} == {"GET"}


def test_a_dry_run_writes_nothing_and_says_what_would_be(azure: FakeAzure) -> None:
    assert set(run(azure, dry_run=True)) == {"would be made"}
    assert azure.resources == {}
    assert {request.split()[0] for request in azure.asked} == {"GET"}


def test_what_was_cut_off_goes_on_where_it_was(azure: FakeAzure) -> None:
    azure.forbidden = "Microsoft.KeyVault"
    with pytest.raises(
        Refused, match=f"key vault {names.state_key_vault('harbour', SUBSCRIPTION)}: this login may not"
    ):
        run(azure)
    azure.forbidden = "nothing"
    states = run(azure)
    assert states[:4] == ["there"] * 4
    assert set(states[4:]) == {"made"}


def test_what_a_hand_has_loosened_is_put_right_and_a_key_is_never_made_anew(azure: FakeAzure) -> None:
    run(azure)
    for one in azure.resources.values():
        if type_of(one["id"]) == "storageaccounts":
            one["properties"]["allowSharedKeyAccess"] = True
            one["location"] = "West Europe"  # as the service may write it
        if type_of(one["id"]) == "keys":
            one["properties"] = {"kty": "EC"}
    assert run(azure, dry_run=True).count("would be changed") == 1
    assert run(azure).count("changed") == 1
    assert set(run(azure)) == {"there"}
    (key,) = [one for one in azure.resources.values() if type_of(one["id"]) == "keys"]
    assert key["properties"] == {"kty": "EC"}


def test_a_role_that_was_given_by_hand_counts(azure: FakeAzure) -> None:
    azure.busy, azure.busy_code = "roleAssignments", "RoleAssignmentExists"
    states = run(azure)
    assert states.count("there") == 2 * len(WHO)
    assert states.count("made") == len(states) - 2 * len(WHO)


def test_a_name_that_is_taken_an_unknown_subscription_and_silence_are_told_apart(azure: FakeAzure) -> None:
    azure.busy = "storageAccounts"
    with pytest.raises(Conflict, match=f"storage account {names.state_account('harbour', SUBSCRIPTION)}: Conflict"):
        run(azure)
    with pytest.raises(NotFound, match="subscription 0000"):
        tenant_of(azure.azure().resources("0000"), "0000")
    azure.silent = True
    with pytest.raises(Unreachable):
        run(azure)


@pytest.mark.parametrize("step", list(steps(SITE, SUBSCRIPTION, TENANT, WHO)), ids=lambda step: step.what)
def test_azure_would_take_each_request(step: Step) -> None:
    request = request_of(f"azure-native:{TYPES[type_of(step.id)]}")
    assert problems(request, as_inputs(step, request)) == []
    assert problems(request, {**as_inputs(step, request), "nobodyKnowsThis": True}) != []


def as_inputs(step: Step, request: Any) -> dict[str, Any]:
    """Return the arguments of the address and the content, as a program would give them."""
    parts = step.id.split("/")
    given = dict(step.body)
    if not any(one.names[0] == "properties" for one in request.body.properties):
        given |= given.pop("properties", {})
    for index, one in enumerate(reversed(request.address)):
        if one.names[0] == "resourceGroupName":
            given["resourceGroupName"] = parts[4]
        elif one.names[0] == "scope":
            given["scope"] = step.id.rpartition("/providers/")[0]
        else:
            given[one.names[0]] = parts[-1 - 2 * index]
    return given


def type_of(resource_id: str) -> str:
    return resource_id.lower().split("/")[-2]


def test_names_keep_to_the_rules_of_azure_and_the_backend_follows_from_them() -> None:
    long = replace(SITE, name="a-very-long-name-of-a-site")
    vault = names.state_key_vault(long.name, SUBSCRIPTION)
    assert len(vault) <= 24
    assert not vault.endswith("-")
    assert len({vault, names.key_vault(long.name, SUBSCRIPTION)}) == 2
    backend = backend_of(SITE, SUBSCRIPTION)
    assert backend.state_url == f"azblob://state?storage_account={names.state_account('harbour', SUBSCRIPTION)}"
    key_vault = names.state_key_vault("harbour", SUBSCRIPTION)
    assert backend.secrets_provider == f"azurekeyvault://{key_vault}.vault.azure.net/keys/pulumi-state"


def test_only_what_is_asked_for_counts_as_a_difference() -> None:
    assert list(differences({"a": {"b": 1}}, {"a": {"b": 1, "c": 2}, "d": 3})) == []
    assert list(differences({"a": {"b": 1, "c": [1]}, "d": "X y"}, {"a": {"b": 2}, "d": "xY"})) == ["a.b", "a.c"]


def test_who_runs_it_is_read_from_the_login(azure: FakeAzure) -> None:
    assert operator_of(azure.azure().claims()) == Operator(PERSON, "User")
    assert operator_of({"oid": "x", "idtyp": "app"}) == Operator("x", "ServicePrincipal")
    with pytest.raises(LifeboatError, match="names no object id"):
        operator_of({})
