"""`--target` of every command that has one: which target is meant, and the declaration that goes with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from dr.model import Declaration
    from dr.target.backend import Backend

# As `dr.target.choice`, whose import `dr --help` need not pay.
LOCAL, AZURE = "local", "azure"
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Chosen:
    """A target, the declaration, and the subscription it deploys to."""

    target: str
    declaration: Declaration
    subscription: str


@dataclass(frozen=True, slots=True)
class Place:
    """A target and where its things are, for commands that need no more of the declaration; local needs none."""

    target: str
    subscription: str
    backend: Backend | None

    def variables(self) -> dict[str, str]:
        """Return the environment of the target, as `dr env` prints it."""
        from dr.local.environment import environment  # noqa: PLC0415 - `dr --help` must load none of it
        from dr.target.folders import Folders  # noqa: PLC0415 - as above

        return environment(self.target, Folders.from_environment(), backend=self.backend)


def target_option(what: str) -> Callable[[F], F]:
    """Return the option; None when the command line says nothing. `what` begins its help."""
    text = f"{what} Default: LIFEBOAT_TARGET, else the site's `target` in the declaration, else local."
    return click.option("--target", type=click.Choice([LOCAL, AZURE]), default=None, help=text)


def require_login(target: str) -> None:
    """Raise `Refused` `login-refused` unless this process has a login in Azure; target local wants none.

    For commands whose first step is Pulumi's: its words on a missing login tell nobody what to do.
    """
    if target == AZURE:
        from dr.target.azure import connect  # noqa: PLC0415 - only target azure needs the SDK

        connect().claims()


def choose(flag: str | None) -> Chosen:
    """Return the target that a command works on. Errors as of the declaration and `subscription_of`."""
    from dr.cli.validate import default_folder  # noqa: PLC0415 - `dr --help` must not load the schema
    from dr.schema import load  # noqa: PLC0415 - as above
    from dr.target.choice import subscription_of, told  # noqa: PLC0415 - as above

    said = told(flag)
    declaration = load(default_folder())
    target = said or declaration.site.target
    return Chosen(target, declaration, subscription_of(target, declaration.site))


def locate(flag: str | None) -> Place:
    """Return the place of the target that a command works on. Errors as of `choose`."""
    from dr.cli.validate import default_folder  # noqa: PLC0415 - as above
    from dr.target.backend import backend_of  # noqa: PLC0415 - as above
    from dr.target.choice import told  # noqa: PLC0415 - as above
    from dr.target.folders import LOCAL_SUBSCRIPTION  # noqa: PLC0415 - as above

    said = told(flag)
    if said == LOCAL or (said is None and not default_folder().exists()):
        return Place(LOCAL, LOCAL_SUBSCRIPTION, None)
    chosen = choose(said)
    backend = backend_of(chosen.declaration.site, chosen.subscription) if chosen.target == AZURE else None
    return Place(chosen.target, chosen.subscription, backend)
