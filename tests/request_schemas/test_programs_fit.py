"""Every program against the request schemas of Azure: each registered resource with each of its properties.

Generic: whatever a program declares is looked up by its type. A purpose without a case here fails too. That the full
estates use every key is tested beside them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dr import compile as compiler
from dr.model import Declaration
from stacks import dispatch, failover, site, vault
from tests.request_schemas import estates
from tests.request_schemas.estates import SUBSCRIPTION
from tests.request_schemas.models import Shape
from tests.request_schemas.problems import problems
from tests.request_schemas.releases import MADE, request_of
from tests.stacks.mocked import Recorder, mocked, plain

ESTATES = {"small": estates.small, "full": estates.full, "express-route": estates.express_route}
PROGRAMS: dict[str, Callable[[Declaration], None]] = {
    "vault": lambda estate: vault.program(compiler.vault(estate, SUBSCRIPTION), SUBSCRIPTION),
    "site": lambda estate: site.program(compiler.site(estate, SUBSCRIPTION), SUBSCRIPTION, gateway_secret="shared"),
    "failover": lambda estate: failover.program(
        compiler.failover(estate, "shop", "r1", "latest", SUBSCRIPTION), SUBSCRIPTION
    ),
}


@pytest.fixture(scope="module")
def registered() -> dict[tuple[str, str], Recorder]:
    """Every program, run once on every estate."""
    found = {}
    with mocked() as run:
        for purpose, program in PROGRAMS.items():
            for name, estate in ESTATES.items():
                found[purpose, name] = run(lambda program=program, estate=estate: program(estate()))  # type: ignore[misc]
    return found


def native(recorder: Recorder) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for args in recorder.made.values():
        if args.typ.startswith("azure-native:"):
            yield args.typ, args.name, plain(dict(args.inputs))


@pytest.mark.parametrize("estate", ESTATES)
@pytest.mark.parametrize("purpose", PROGRAMS)
def test_azure_would_take_every_property(
    registered: dict[tuple[str, str], Recorder], purpose: str, estate: str
) -> None:
    resources = list(native(registered[purpose, estate]))
    assert resources
    found = [
        f"{token} {name}: {problem.path}: {problem.reason}"
        for token, name, inputs in resources
        for problem in problems(request_of(token), inputs)
    ]
    assert not found, "\n".join(found)


def test_every_program_is_here() -> None:
    assert set(PROGRAMS) == set(dispatch.PROGRAMS)


@pytest.mark.real
@pytest.mark.parametrize("name", MADE)
def test_every_listed_type_can_be_read(name: str) -> None:
    """Read all that a request may hold, also of types that no program declares yet: nothing must be unintelligible."""
    request = request_of(f"azure-native:{name}")
    seen: set[str] = set()
    todo = [one.shape for one in (*request.address, *request.body.properties) if not one.read_only]
    while todo:
        shape = todo.pop()
        todo += [shape.of] if shape.of else []
        if shape.kind == "model" and shape.name not in seen:
            seen.add(shape.name)
            model = request.models.model(shape.name)
            todo += [one.shape for one in model.properties if not one.read_only]
            todo += [Shape("model", name=subtype) for subtype in model.subtypes.values()]
    assert request.body.properties
