"""`dr vault destroy`: what stands in its way, and what a second call asks after the first took some of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dr.compile import names
from dr.errors import Refused, RunFailed, Unreachable
from dr.failover.engine import Event, Outcome
from dr.model import Site
from dr.retention import ending
from dr.schema import load
from dr.target.inventory import exists
from tests.retention.vaults import Vault
from tests.target.fake_azure import FakeAzure

SUBSCRIPTION = "3f2b1c5e-7a64-4c1d-9d5b-0a1b2c3d4e5f"
DONE = Outcome(succeeded=True, interrupted=False, changes={}, errors=())


@pytest.fixture
def site() -> Site:
    return load(Path(__file__).parents[2] / "plans").site


@dataclass
class Stack:
    """A vault's stack that lets go of one resource after the other; `fails` of its destructions end half-way."""

    resources: list[dict[str, Any]]
    fails: int = 0
    calls: list[str] = field(default_factory=list)

    def state(self) -> Mapping[str, Any]:
        return {"resources": self.resources}

    def up(self, report: Callable[[Event], None]) -> Outcome:
        self.calls.append("up")
        self.resources = [{**resource, "protect": False} for resource in self.resources]
        return DONE

    def destroy(self, report: Callable[[Event], None]) -> Outcome:
        self.calls.append("destroy")
        if self.fails:
            self.fails -= 1
            self.resources.pop()
            return Outcome(succeeded=False, interrupted=False, changes={}, errors=("the line is dead",))
        self.resources = []
        return DONE


def put(fake: FakeAzure, resource: str) -> None:
    fake.resources[resource.lower()] = {"id": resource, "properties": {}}


def held(*ids: str) -> dict[str, Any]:
    """Return the state of a vault's stack that holds these of Key Vault and account, and a lock."""
    kinds = {"vaults": "keyvault:Vault", "storageAccounts": "storage:StorageAccount"}
    listed = [{"type": f"azure-native:{kinds[each.split('/')[-2]]}", "id": each} for each in ids]
    return {"resources": [*listed, {"type": "azure-native:authorization:ManagementLockByScope", "id": "/lock"}]}


def test_what_is_gone_in_azure_is_known_from_azure_and_nothing_is_asked_of_it(site: Site) -> None:
    fake = FakeAzure(SUBSCRIPTION)
    keys, account = names.key_vault_id(site, SUBSCRIPTION), names.storage_account_id(site, SUBSCRIPTION)
    ask = partial(exists, SUBSCRIPTION, azure=fake.azure())
    find = partial(ending.standing, held(keys, account), site, SUBSCRIPTION, ask)
    put(fake, keys)
    put(fake, account)
    assert find() == ending.Standing(keys=True, account=True)
    del fake.resources[keys.lower()]
    assert find() == ending.Standing(keys=False, account=True)
    fake.resources.clear()  # and with it the resource group
    assert find() == ending.Standing(keys=False, account=False)
    fake.silent = True
    with pytest.raises(Unreachable):
        find()


def test_a_vault_that_lies_elsewhere_than_declared_is_found_by_the_state(site: Site) -> None:
    """Whoever changed `resourceGroups.vault` must not be told that there is nothing to lose."""
    there = [
        each(site, SUBSCRIPTION).replace("rg-lifeboat", "rg-older")
        for each in (names.key_vault_id, names.storage_account_id)
    ]
    assert ending.standing(held(*there), site, SUBSCRIPTION, there.__contains__) == ending.Standing(
        keys=True, account=True
    )


@pytest.mark.parametrize("state", [None, {}, {"resources": [{"type": "pulumi:pulumi:Stack"}]}])
def test_a_vault_that_the_state_has_forgotten_is_not_said_to_be_destroyed(
    site: Site, state: Mapping[str, Any] | None
) -> None:
    """What is retained is forgotten by `pulumi destroy`, and stays."""
    with pytest.raises(Refused) as refused:
        ending.standing(state, site, SUBSCRIPTION, lambda _: True)
    assert refused.value.code == "state-forgot" and "pulumi stack import" in refused.value.remedy
    nothing = ending.standing(state, site, SUBSCRIPTION, lambda _: False)
    assert nothing == ending.Standing(keys=False, account=False)


def test_a_destruction_that_stopped_half_way_is_ended_by_a_second_call_without_an_up() -> None:
    kinds = ("storage:StorageAccount", "keyvault:Vault", "authorization:ManagementLockByScope")
    stack = Stack([{"type": f"azure-native:{kind}", "protect": True} for kind in kinds], fails=2)
    for _ in range(2):
        with pytest.raises(RunFailed, match="the line is dead"):
            ending.end_vault(stack, lambda event: None)
    assert ending.survey(stack, None) == ending.VaultLoss({}, 1)
    ending.end_vault(stack, lambda event: None)
    assert stack.calls == ["up", "destroy", "destroy", "destroy"]
    assert ending.survey(stack, None) == ending.VaultLoss({}, 0)


def test_a_run_holds_the_vault_whatever_the_declaration_says_of_its_plan(vault: Vault) -> None:
    vault.declare()
    point = vault.cut()
    ending.refuse_runs(vault.store, "local")
    vault.store.put(names.RUNS, "shop/r1/started.json", b"{}")  # what an ended run leaves
    ending.refuse_runs(vault.store, "local")
    vault.select(point)
    with pytest.raises(Refused) as refused:
        ending.refuse_runs(vault.store, "local")
    assert refused.value.code == "stacks-standing" and "shop/r1" in refused.value.message
    assert "pulumi destroy -s failover-shop-local" in refused.value.remedy
    vault.store.put(names.RUNS, "shop/r1/point-shop1.json", b"not even readable")
    with pytest.raises(Refused):
        ending.refuse_runs(vault.store, "local")


def test_every_stack_that_holds_something_is_named() -> None:
    held = {"resources": [{"type": "pulumi:pulumi:Stack"}, {"type": "azure-native:compute:Disk"}]}
    empty = {"resources": [{"type": "pulumi:pulumi:Stack"}]}
    ending.refuse_standing({"site-local": empty, "failover-shop-local": None})
    with pytest.raises(Refused) as refused:
        ending.refuse_standing({"site-local": empty, "failover-gone-local": held})
    assert "failover-gone-local" in refused.value.message and "site-local" not in refused.value.message
