"""The request that makes a resource: the arguments in its address, the model of its body, its API version.

Read from the source of an operation and of the function that builds its request, as `models.py` reads models.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.request_schemas.models import LIMITS, Model, Models, Property, Shape, Sources, camel

_BUILDER = re.compile(r"\bbuild_\w+_request\b")
_API_VERSION = re.compile(r"\"api-version\", \"(\d{4}-\d\d-\d\d[a-z-]*)\"")
_BODY = re.compile(r"\b_models\.(\w+)")
_SIGNED_IN = "subscriptionId"  # azure-native takes it from its configuration


@dataclass(frozen=True, slots=True)
class Request:
    """What one operation sends: `address` are the arguments in its path, `body` is the model of its content."""

    api_version: str
    address: tuple[Property, ...]
    body: Model
    models: Models


def read_request(folder: Path, group: str, operation: str) -> Request:
    """Return the request of `operation` of the class `group` below a release's folder (it holds `models`)."""
    operations, models = _sources(folder / "operations"), _models(folder / "models")
    methods = [line for line in operations.class_(group).body if isinstance(line, ast.FunctionDef)]
    meant = [method for method in methods if method.name in {operation, f"_{operation.removeprefix('begin_')}_initial"}]
    name = _one(_BUILDER.findall("\n".join(ast.unparse(method) for method in meant)), f"builder of {operation}")
    builder = operations.function(name, beside=group)
    arguments = {one.arg: one.annotation for method in meant for one in method.args.args if one.annotation is not None}
    bodies = [found for one in arguments.values() for found in _BODY.findall(ast.unparse(one))]
    return Request(
        api_version=_one(_API_VERSION.findall(ast.unparse(builder).replace("'", '"')), "API version"),
        address=tuple(_address(builder, arguments, models)),
        body=models.model(_one([body for body in bodies if not models.is_enum(body)], f"body of {group}.{operation}")),
        models=models,
    )


@cache
def _sources(folder: Path) -> Sources:
    return Sources(folder)


@cache
def _models(folder: Path) -> Models:
    return Models(_sources(folder))


def _address(builder: ast.FunctionDef, arguments: Mapping[str, ast.expr], models: Models) -> Iterator[Property]:
    constants = dict(_constants(builder))
    for wire, call in _path_arguments(builder):
        if wire == _SIGNED_IN:
            continue
        argument, said = ast.literal_eval(call.args[0]), {word.arg: word.value for word in call.keywords}
        names = tuple(dict.fromkeys((wire[:1].lower() + wire[1:], camel(argument))))
        limits = {name: ast.literal_eval(value) for name, value in said.items() if name in LIMITS}
        if argument in constants:
            yield Property(names, Shape("enum", values=constants[argument]))
        else:
            # Not given, azure-native would make a name up: nobody finds that again from the declaration alone.
            yield Property(names, models.shape(arguments[argument]), required=True, limits=limits)


def _path_arguments(builder: ast.FunctionDef) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(builder):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "path_format_arguments":
            assert isinstance(node.value, ast.Dict)
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                assert key is not None
                assert isinstance(value, ast.Call)
                yield ast.literal_eval(key), value


def _constants(builder: ast.FunctionDef) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the arguments that can only have the values of their type, `Literal["default"]`."""
    for node in ast.walk(builder):
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation).startswith("Literal["):
            assert isinstance(node.annotation, ast.Subscript)
            yield ast.unparse(node.target), (str(ast.literal_eval(node.annotation.slice)),)


def _one(found: list[str], what: str) -> str:
    if len(set(found)) != 1:
        raise LookupError(f"{what}: expected one, found {sorted(set(found)) or 'none'}")
    return found[0]
