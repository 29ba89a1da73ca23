"""Every program against the request schemas of Azure: each registered resource with each of its properties.

Generic: whatever a program declares is looked up by its type. A purpose without a case here fails too. That the full
estates use every key is tested beside them.
"""

from __future__ import annotations

import pytest

from stacks import dispatch
from tests.request_schemas.models import Shape
from tests.request_schemas.problems import problems
from tests.request_schemas.programs import ESTATES, PROGRAMS, registered
from tests.request_schemas.releases import MADE, request_of


@pytest.mark.thorough
@pytest.mark.parametrize("estate", ESTATES)
@pytest.mark.parametrize("purpose", PROGRAMS)
def test_azure_would_take_every_property(purpose: str, estate: str) -> None:
    resources = registered(purpose, estate)
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
