"""What is wrong with the properties of a resource, seen from the request that would carry them to Azure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from tests.request_schemas.models import Model, Models, Property, Shape
from tests.request_schemas.operations import Request

OPEN_ENUMS = {
    "VirtualMachineSizeTypes": "documented by the SDK as a stale sample: the sizes are the region's",
}
AS_LIST = {
    "userAssignedIdentities": "azure-native takes the ids as a list, and sends them as a map of empty objects",
}
_DURATION = re.compile(r"P(?=.)(\d+[YMWD])*(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?")


@dataclass(frozen=True, slots=True)
class Problem:
    """One property that the request does not carry as it is; `path` from the resource's inputs."""

    path: str
    reason: str


def problems(request: Request, inputs: Mapping[str, Any]) -> list[Problem]:
    """Return what is unknown, missing, read-only or of another type in the inputs of a resource."""
    check = _Check(request.models)
    return list(check.properties((*request.address, *request.body.properties), inputs, "", request.body))


@dataclass(frozen=True, slots=True)
class _Check:
    models: Models

    def properties(
        self, properties: Sequence[Property], values: Mapping[str, Any], path: str, model: Model
    ) -> Iterator[Problem]:
        given = set()
        for name, value in values.items():
            one = _known(properties, name)
            if one is None:
                yield Problem(_join(path, name), f'{model.name} has no property "{name}"')
                continue
            given.add(one.names[0])
            if one.read_only:
                yield Problem(_join(path, name), f'"{name}" of {model.name} is read-only')
            else:
                yield from self.value(one.shape, value, _join(path, name))
                yield from _outside(one.limits, value, _join(path, name))
        for one in properties:
            if one.required and not one.read_only and one.names[0] not in given:
                yield Problem(_join(path, one.names[0]), f'"{one.names[0]}" of {model.name} is required')

    def value(self, shape: Shape, value: Any, path: str) -> Iterator[Problem]:
        if shape.kind == "any":
            return
        if shape.kind == "model":
            yield from self.model(shape.name, value, path)
        elif shape.kind == "list":
            yield from self.items(shape, value, path)
        elif shape.kind == "map":
            yield from self.entries(shape, value, path)
        elif not _fits(shape, value):
            article = "an" if shape.kind == "integer" else "a"
            wanted = f"one of {', '.join(shape.values)}" if shape.kind == "enum" else f"{article} {shape.kind}"
            yield Problem(path, f"{_said(value)} is not {wanted}")

    def model(self, name: str, value: Any, path: str) -> Iterator[Problem]:
        if not isinstance(value, Mapping):
            yield Problem(path, f"{_said(value)} is not an object ({name})")
            return
        model = self.models.model(name)
        said = value.get(model.discriminator) if model.discriminator else None
        if said is not None and said not in model.subtypes:
            yield Problem(_join(path, str(model.discriminator)), f"{said!r} is not one of {', '.join(model.subtypes)}")
            return
        if said is not None:
            model = self.models.model(model.subtypes[said])
        yield from self.properties(model.properties, value, path, model)

    def items(self, shape: Shape, value: Any, path: str) -> Iterator[Problem]:
        if not isinstance(value, list):
            yield Problem(path, f"{_said(value)} is not a list")
            return
        assert shape.of is not None
        for index, item in enumerate(value):
            yield from self.value(shape.of, item, f"{path}[{index}]")

    def entries(self, shape: Shape, value: Any, path: str) -> Iterator[Problem]:
        if path.rpartition(".")[2] in AS_LIST:
            yield from self.items(Shape("list", Shape("string")), value, path)
            return
        if not isinstance(value, Mapping):
            yield Problem(path, f"{_said(value)} is not an object")
            return
        assert shape.of is not None
        for key, item in value.items():
            yield from self.value(shape.of, item, _join(path, key))


def _known(properties: Sequence[Property], name: str) -> Property | None:
    """Return the property of a name: a wire name goes first, and an attribute's capitals say nothing ("ip", "IP")."""
    by_wire = [one for one in properties if one.names[0] == name]
    by_attribute = [one for one in properties if name.lower() in {other.lower() for other in one.names[1:]}]
    return next(iter(by_wire or by_attribute), None)


def _fits(shape: Shape, value: Any) -> bool:
    if shape.kind == "boolean" or isinstance(value, bool):
        return shape.kind == "boolean" and isinstance(value, bool)
    if shape.kind in {"integer", "number"}:
        return isinstance(value, int | float) and (shape.kind == "number" or value == int(value))
    if not isinstance(value, str):
        return False
    if shape.kind == "enum":
        return value in shape.values or shape.name in OPEN_ENUMS
    return shape.kind == "string" or _is_time(shape.kind, value)


def _is_time(kind: str, value: str) -> bool:
    if kind == "duration":
        return _DURATION.fullmatch(value) is not None
    try:
        return (date if kind == "date" else datetime).fromisoformat(value) is not None
    except ValueError:
        return False


def _outside(limits: Mapping[str, Any], value: Any, path: str) -> Iterator[Problem]:
    """Yield the limits of the schema that a value of the right type does not keep."""
    size = len(value) if isinstance(value, str | list) else value if isinstance(value, int | float) else None
    if size is None:
        return
    low = next((limits[name] for name in ("min_length", "min_items", "minimum") if name in limits), size)
    high = next((limits[name] for name in ("max_length", "max_items", "maximum") if name in limits), size)
    if not low <= size <= high:
        yield Problem(path, f"{_said(value)} is outside {low} to {high}")
    if isinstance(value, str) and "pattern" in limits and re.search(limits["pattern"], value) is None:
        yield Problem(path, f"{value!r} does not match {limits['pattern']}")


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, list) else repr(value)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
