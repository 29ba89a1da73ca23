"""The end of a whole vault: protection off by the one word that the vault's program knows, then `pulumi destroy`.

Rules:
- Nothing else may stand: while a site or a run holds resources, somebody still relies on the vault. Which there are,
  the backend says and the vault's own container of runs; a plan may have left the declaration long ago.
- The word is an environment variable of this one call, never configuration: no later `up` finds it.
- Interrupted before the destruction, `pulumi up` of the vault's stack protects everything again; interrupted in the
  middle, a second call goes on destroying and makes nothing anew (a deleted Key Vault would keep its name). What it
  has destroyed already is asked of the target, and nothing is asked of that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from dr.compile import names
from dr.errors import Refused, RunFailed
from dr.failover.engine import Event, Outcome
from dr.model import Site
from dr.retention.pruning import is_selection
from dr.vault.points import read_points, servers
from dr.vault.store import BlobStore

_KEYS, _ACCOUNT = "azure-native:keyvault:Vault", "azure-native:storage:StorageAccount"
ENDING = "LIFEBOAT_ENDING_VAULT"  # the vault's program reads it (`stacks/dispatch.py`)


class Destroyable(Protocol):
    """One stack; `dr.failover.engine.Engine` is the real one."""

    def state(self) -> Mapping[str, Any] | None: ...

    def up(self, report: Callable[[Event], None]) -> Outcome: ...

    def destroy(self, report: Callable[[Event], None]) -> Outcome: ...


@dataclass(frozen=True, slots=True)
class VaultLoss:
    """What goes with a vault: recovery points by server, and the resources of its stack."""

    points: Mapping[str, int]
    resources: int

    def as_dict(self) -> dict[str, Any]:
        return {"points": dict(self.points), "resources": self.resources}


@dataclass(frozen=True, slots=True)
class Standing:
    """What of a vault is still there: an earlier call may have taken some of it."""

    keys: bool
    account: bool


def standing(
    deployment: Mapping[str, Any] | None, site: Site, subscription: str, exists: Callable[[str], bool | None]
) -> Standing:
    """Return what is there of a site's vault; `exists` asks the target for one ARM id.

    Where it lies, the stack's state says; the declaration, which may have been edited, only of what is not in it.
    Raises `Refused` `state-forgot`, and the errors of `exists`.
    """
    held = {str(resource["type"]): str(resource.get("id") or "") for resource in resources(deployment)}
    keys = exists(held.get(_KEYS) or names.key_vault_id(site, subscription))
    account = exists(held.get(_ACCOUNT) or names.storage_account_id(site, subscription))
    if not held and (keys or account):
        raise Refused(
            f"the vault's stack holds nothing, and the vault of site {site.name} is there: its state was lost, or what "
            "it retains was forgotten",
            code="state-forgot",
            remedy="bring the state back from an earlier version in the backend (`pulumi stack import`); then run this "
            "command again",
        )
    return Standing(bool(keys), bool(account))


def survey(stack: Destroyable, store: BlobStore | None) -> VaultLoss:
    """Return what the end of a vault takes along; `store` None: there is no account any more."""
    points = {}
    if store is not None:
        for server in servers(store):
            found = read_points(store, server)
            points[server] = len(found.good) + len(found.broken)
    return VaultLoss(points, len(list(resources(stack.state()))))


def refuse_standing(stacks: Mapping[str, Mapping[str, Any] | None]) -> None:
    """Raise `Refused` unless all of these stacks, name to deployment, are empty."""
    standing = [name for name, deployment in stacks.items() if any(resources(deployment))]
    if standing:
        raise Refused(
            f"{', '.join(standing)} still hold resources that rely on this vault",
            code="stacks-standing",
            remedy="; ".join(f"`pulumi destroy -s {name}`" for name in standing) + "; then run this command again",
        )


def refuse_runs(store: BlobStore, target: str) -> None:
    """Raise `Refused` while a run holds a recovery point, also one whose stack nobody knows any more."""
    held = sorted({name.rpartition("/")[0] for name in store.list(names.RUNS) if is_selection(name)})
    if held:
        plans = sorted({run.partition("/")[0] for run in held})
        raise Refused(
            f"runs hold recovery points of this vault: {', '.join(held)}",
            code="stacks-standing",
            remedy="; ".join(f"`pulumi destroy -s failover-{plan}-{target}`" for plan in plans)
            + f"; of a stack that is lost, delete the blobs {names.RUNS}/PLAN/RUN/point-*; then run this command again",
        )


def end_vault(stack: Destroyable, report: Callable[[Event], None]) -> None:
    """Take the protection away and destroy everything. `RunFailed` with what the engine said; a second call goes on."""
    if any(resource.get("protect") or resource.get("retainOnDelete") for resource in resources(stack.state())):
        _succeed(stack.up(report), "the protection could not be taken away; nothing was destroyed")
    _succeed(stack.destroy(report), "the vault is not destroyed completely")


def resources(deployment: Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """Yield what a stack holds, but for the stack itself and its providers."""
    for resource in (deployment or {}).get("resources") or []:
        if not str(resource["type"]).startswith("pulumi:"):
            yield resource


def _succeed(outcome: Outcome, what: str) -> None:
    if not outcome.succeeded:
        said = "it was interrupted" if outcome.interrupted else "; ".join(outcome.errors)
        raise RunFailed(f"{what}: {said}", code="vault-not-destroyed", remedy="run the same command again")
