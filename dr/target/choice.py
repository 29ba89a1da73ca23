"""Which target is meant, and the subscription that goes with it.

The rule: what the command line says, else `LIFEBOAT_TARGET` (which `dr env` exports), else `target` of the site in
the declaration, which is local unless it says otherwise.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from dr.errors import PrerequisiteMissing, Refused
from dr.model import Site
from dr.target.folders import LOCAL_SUBSCRIPTION

LOCAL = "local"
AZURE = "azure"
TARGETS = (LOCAL, AZURE)
VARIABLE = "LIFEBOAT_TARGET"


def told(flag: str | None, environment: Mapping[str, str] | None = None) -> str | None:
    """Return the target of the command line or the environment, None when only the declaration can tell.

    Raises `Refused` when the variable names no target.
    """
    values = os.environ if environment is None else environment
    target = flag or values.get(VARIABLE) or None
    if target is not None and target not in TARGETS:
        raise Refused(f'{VARIABLE} is "{target}"', remedy=f"set it to {' or '.join(TARGETS)}, or unset it")
    return target


def subscription_of(target: str, site: Site) -> str:
    """Return the subscription that a target deploys to.

    Raises `PrerequisiteMissing` when the declaration names none for target azure, `Refused` when it names the one
    that plays Azure on this machine.
    """
    if target == LOCAL:
        return LOCAL_SUBSCRIPTION
    if not site.subscription:
        raise PrerequisiteMissing(
            "the declaration names no subscription for target azure",
            code="subscription-missing",
            remedy="set `subscription` of the site in plans/ to the id that `az account show` prints",
        )
    if site.subscription == LOCAL_SUBSCRIPTION:
        raise Refused(
            f"{LOCAL_SUBSCRIPTION} is the subscription of target local",
            remedy="set `subscription` of the site in plans/ to your own",
        )
    return site.subscription
