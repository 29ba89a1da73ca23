"""Every program on every estate, run once under mocks for all tests that look at what was registered."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from dr import compile as compiler
from dr.model import Declaration
from stacks import failover, site, vault
from tests.request_schemas import estates
from tests.request_schemas.estates import SUBSCRIPTION
from tests.stacks.mocked import mocked, plain

Resource = tuple[str, str, dict[str, Any]]  # type, name, inputs
ESTATES = {"small": estates.small, "full": estates.full, "express-route": estates.express_route}
PROGRAMS: dict[str, Callable[[Declaration], None]] = {
    "vault": lambda estate: vault.program(compiler.vault(estate, SUBSCRIPTION), SUBSCRIPTION),
    "site": lambda estate: site.program(compiler.site(estate, SUBSCRIPTION), SUBSCRIPTION, gateway_secret="shared"),
    "failover": lambda estate: failover.program(
        compiler.failover(estate, "shop", "r1", "latest", SUBSCRIPTION), SUBSCRIPTION
    ),
}


@cache
def registered(purpose: str, estate: str) -> tuple[Resource, ...]:
    """Return what the program of a purpose registers of Azure's for an estate; seconds, the first time."""
    with mocked() as run:
        recorder = run(lambda: PROGRAMS[purpose](ESTATES[estate]()))
    return tuple(
        (args.typ, args.name, plain(dict(args.inputs)))
        for args in recorder.made.values()
        if args.typ.startswith("azure-native:")
    )
