"""From a stack's name to its program: split the name, tie the stack to its target, load, compile, call."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pulumi

from dr import compile as compiler
from dr.compile.blueprint import Identities
from dr.compile.landing import NOBODY
from dr.errors import DeclarationInvalid, Refused
from dr.model import Declaration
from dr.schema import NO_SITE, load
from dr.target.folders import LOCAL_SUBSCRIPTION

LOCAL = "local"
ENDING = "LIFEBOAT_ENDING_VAULT"  # set by `dr vault destroy` alone (`dr.retention.ending`), to the vault's name
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
    """Raise `Refused` unless the stack was made for this site: a second, protected vault would arise beside it."""
    if not held:
        raise Refused(
            f"{stack} is not tied to a site: its configuration lacks dr:site",
            code="stack-untied",
            remedy="`dr local up` (target local) or `dr bootstrap` (target azure) ties the stacks; by hand, if that is "
            f"the site that it holds: `pulumi config set dr:site {declared} -s {stack}`",
        )
    if held != declared:
        raise Refused(
            f'this stack holds site "{held}", and the declaration is of site "{declared}"; a site cannot be renamed',
            remedy=f'put the name "{held}" back (or check LIFEBOAT_PLANS); only if the stack holds nothing any more: '
            f"`pulumi config set dr:site {declared} -s {stack}`",
        )


def site_left_out(held: str | None, invalid: DeclarationInvalid, stack: str) -> Refused | None:
    """Return the refusal for a declaration whose site was taken out, None when it is invalid for another reason."""
    if not held or NO_SITE not in invalid.message:
        return None
    return Refused(
        f'{invalid.message}\nthis stack holds site "{held}": a site is not removed by leaving it out, for nobody would '
        "know any more whose its recovery points are",
        remedy=f'put the Site "{held}" back. To end it: `pulumi destroy` of its site stack, then `dr vault destroy`; '
        f"only then has {stack} nothing to lose",
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
    held = pulumi.Config("dr").get("site")
    try:
        declaration = load(Path(os.environ.get("LIFEBOAT_PLANS") or CHECKOUT / "plans"))
    except DeclarationInvalid as invalid:
        raise (site_left_out(held, invalid, stack) or invalid) from invalid
    tie_to_site(held, declaration.site.name, stack)
    PROGRAMS[name.purpose](name, declaration, subscription)


def _vault(name: StackName, declaration: Declaration, subscription: str) -> None:
    from stacks import vault  # noqa: PLC0415 - each program loads only its own part of the SDK

    directory = NOBODY if name.target == LOCAL else identities()
    blueprint = compiler.vault(declaration, subscription, directory)
    vault.program(blueprint, subscription, ending=os.environ.get(ENDING) == blueprint.recovery_vault)


def identities() -> Identities:
    """Return who the vault is to be opened for, from the stack's configuration. `Refused` names all that is missing."""
    config = pulumi.Config("dr")
    given = {key: config.get(key) or "" for key in _IDENTITIES}
    missing = [f"dr:{key} ({meaning})" for key, meaning in _IDENTITIES.items() if not given[key]]
    if missing:
        raise Refused(
            f"the vault's stack lacks {', '.join(missing)}",
            code="identities-missing",
            remedy="`pulumi config set KEY VALUE -s STACK` each of them; docs/vault.md tells where they come from",
        )
    return Identities(*given.values())


_IDENTITIES = {
    "tenant": "id of the directory",
    "sitePrincipal": "object id of the application that the site's servers log in as",
    "operatorPrincipal": "object id of the group of those who run dr",
    "retentionImage": "container image of dr",
}


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
    run, selector = config.get("run") or "r1", config.get("point") or compiler.default_selector(declaration, name.plan)
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
