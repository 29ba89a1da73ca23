"""From a stack's name to its program: split the name, tie the stack to its target, load, compile, call."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pulumi

from dr import compile as compiler
from dr.errors import Refused
from dr.model import Declaration
from dr.schema import load
from dr.target.folders import LOCAL_SUBSCRIPTION

LOCAL = "local"
CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class StackName:
    purpose: str  # "vault", "site", "failover"
    plan: str  # "" where the purpose has none
    target: str


def split(stack: str) -> StackName:
    """Return the parts of PURPOSE-TARGET or PURPOSE-PLAN-TARGET; `Refused` when the name is no such thing."""
    purpose, _, rest = stack.partition("-")
    plan, _, target = rest.rpartition("-")
    wants_plan = purpose == "failover"
    if purpose not in PROGRAMS or not target or wants_plan != bool(plan):
        raise Refused(
            f'"{stack}" is no name of a stack of this project',
            remedy="name it vault-TARGET, site-TARGET or failover-PLAN-TARGET, where TARGET is local or azure",
        )
    return StackName(purpose, plan, target)


def tie_to_target(target: str, subscription: str) -> None:
    """Raise `Refused` unless the subscription belongs to the target that the stack is named for."""
    if (target == LOCAL) != (subscription == LOCAL_SUBSCRIPTION):
        wanted = LOCAL_SUBSCRIPTION if target == LOCAL else "the subscription of that target"
        raise Refused(
            f"this stack belongs to target {target}, and azure-native:subscriptionId is {subscription}",
            remedy=f"pulumi config set azure-native:subscriptionId {wanted}, or select the stack of the other target",
        )


def tie_to_site(held: str | None, declared: str, stack: str) -> None:
    """Raise `Refused` when the stack was made for another site: a second, protected vault would arise beside it."""
    if held and held != declared:
        raise Refused(
            f'this stack holds site "{held}", and the declaration is of site "{declared}"; a site cannot be renamed',
            remedy=f'put the name "{held}" back (or check LIFEBOAT_PLANS); only if the stack holds nothing any more: '
            f"`pulumi config set dr:site {declared} -s {stack}`",
        )


def run(stack: str) -> None:
    """Declare the resources of `stack`. Raises the errors of `dr.errors`, before the first registration."""
    name = split(stack)
    subscription = pulumi.Config("azure-native").get("subscriptionId")
    if not subscription:
        raise Refused(
            "azure-native:subscriptionId is not set for this stack",
            remedy='run `eval "$(dr env)"` and `pulumi config set azure-native:subscriptionId ID`',
        )
    tie_to_target(name.target, subscription)
    declaration = load(Path(os.environ.get("LIFEBOAT_PLANS") or CHECKOUT / "plans"))
    tie_to_site(pulumi.Config("dr").get("site"), declaration.site.name, stack)
    PROGRAMS[name.purpose](name, declaration, subscription)


def _vault(name: StackName, declaration: Declaration, subscription: str) -> None:
    from stacks import vault  # noqa: PLC0415 - each program loads only its own part of the SDK

    vault.program(compiler.vault(declaration, subscription), subscription)


def _site(name: StackName, declaration: Declaration, subscription: str) -> None:
    from dr.target.references import References  # noqa: PLC0415 - as above
    from dr.target.secrets import key_store  # noqa: PLC0415 - loads cryptography
    from stacks import site  # noqa: PLC0415 - as above; and never a plain `import site`, which is Python's own

    blueprint = compiler.site(declaration, subscription)
    secret = None
    if blueprint.zone.gateway is not None and blueprint.zone.gateway.secret is not None:
        references = References(key_store=lambda: key_store(subscription))
        secret = references.reveal(blueprint.zone.gateway.secret, blueprint.zone.gateway.secret_stands_at)
    site.program(blueprint, subscription, gateway_secret=secret)


def _failover(name: StackName, declaration: Declaration, subscription: str) -> None:
    from dr.failover.preflight import Checks, require  # noqa: PLC0415 - only this purpose reads the vault
    from dr.target.inventory import exists  # noqa: PLC0415 - as above
    from dr.target.stores import open_store  # noqa: PLC0415 - loads the Azure SDK
    from stacks import failover  # noqa: PLC0415 - as above

    config = pulumi.Config("dr")
    run, selector = config.get("run") or "r1", config.get("point") or "latest"
    blueprint = compiler.failover(declaration, name.plan, run, selector, subscription)
    checks = Checks(
        lambda: open_store(subscription, blueprint.storage_account), lambda name: exists(subscription, name)
    )
    require(blueprint, subscription, checks, datetime.now(UTC))
    failover.program(blueprint, subscription, source_may_be_alive=config.get("sourceMayBeAlive"))


PROGRAMS: dict[str, Callable[[StackName, Declaration, str], None]] = {
    "vault": _vault,
    "site": _site,
    "failover": _failover,
}
