"""What the SDK knows about a resource type: names, types, enums and required ones of its inputs, nested ones too.

The installed SDK is the specification; nothing about a type is written down here. Only unversioned tokens are known
(`azure-native:compute:Disk`), because only those are what the pinned SDK means by its default version.
"""

from __future__ import annotations

import collections.abc
import difflib
import enum
import importlib
import inspect
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pulumi import _types

from dr.errors import Refused
from dr.plugin.values import UNKNOWN

SDK = "pulumi_azure_native"


@dataclass(frozen=True, slots=True)
class Problem:
    """One property that the SDK would not accept; `path` as the engine writes it."""

    path: str
    reason: str


def arguments_class(token: str) -> type:
    """Return the SDK's class of inputs for a type token. `Refused` when the SDK has no such type."""
    package, module, name = token.split(":")
    if "/" in module:
        raise Refused(
            f'"{token}" names an API version; the local target knows the default versions only',
            remedy=f'use "{package}:{module.split("/")[0]}:{name}"',
        )
    try:
        sdk_module = importlib.import_module(f"{SDK}.{module}")
    except ModuleNotFoundError:
        raise Refused(f'the SDK has no module "{module}" (type "{token}")') from None
    resource = getattr(sdk_module, name, None)
    if getattr(resource, "pulumi_type", None) != token:
        known = [n for n in dir(sdk_module) if getattr(getattr(sdk_module, n), "pulumi_type", None)]
        raise Refused(f'the SDK has no type "{token}"{_did_you_mean(name, known)}')
    # A resource whose inputs share a name with a nested type (Subnet) has its own class beside it.
    found: type = getattr(sdk_module, f"{name}InitArgs", None) or getattr(sdk_module, f"{name}Args")
    return found


def problems(arguments: type, values: Mapping[str, Any], path: str = "") -> Iterator[Problem]:
    """Yield what is unknown, missing or of the wrong type in `values` (plain; unknowns of a preview pass)."""
    known = _types.input_type_types(arguments)
    for name in sorted(values.keys() - known.keys()):
        if not name.startswith("__"):
            yield Problem(_join(path, name), f'unknown property "{name}"{_did_you_mean(name, list(known))}')
    for name in _required(arguments):
        if values.get(name) is None:
            yield Problem(_join(path, name), f'missing required property "{name}"')
    for name, kind in known.items():
        value = values.get(name)
        if value is not None and value != UNKNOWN:
            yield from _value_problems(kind, value, _join(path, name))


def has_input(arguments: type, name: str) -> bool:
    """Say whether a type has an input of that name."""
    return name in _types.input_type_types(arguments)


def _value_problems(kind: Any, value: Any, path: str) -> Iterator[Problem]:
    if value == UNKNOWN:
        return
    shapes = list(_shapes(kind))
    if not shapes or typing.Any in shapes:
        return
    if isinstance(value, Mapping):
        yield from _object_problems(shapes, value, path)
    elif isinstance(value, list):
        yield from _list_problems(shapes, value, path)
    else:
        yield from _scalar_problems(shapes, value, path)


def _object_problems(shapes: list[Any], value: Mapping[str, Any], path: str) -> Iterator[Problem]:
    nested = [shape for shape in shapes if _types.is_input_type(shape)]
    maps = [shape for shape in shapes if typing.get_origin(shape) is collections.abc.Mapping]
    if nested:
        yield from problems(nested[0], value, path)
    elif maps:
        for key, item in value.items():
            yield from _value_problems(typing.get_args(maps[0])[1], item, f"{path}.{key}")
    else:
        yield Problem(path, f"expected {_words(shapes)}, got an object")


def _list_problems(shapes: list[Any], value: list[Any], path: str) -> Iterator[Problem]:
    lists = [shape for shape in shapes if typing.get_origin(shape) is collections.abc.Sequence]
    if not lists:
        yield Problem(path, f"expected {_words(shapes)}, got a list")
        return
    for index, item in enumerate(value):
        yield from _value_problems(typing.get_args(lists[0])[0], item, f"{path}[{index}]")


def _scalar_problems(shapes: list[Any], value: Any, path: str) -> Iterator[Problem]:
    enums = [shape for shape in shapes if inspect.isclass(shape) and issubclass(shape, enum.Enum)]
    if enums:
        # Where the SDK allows any string beside the enum, Azure itself refuses what it does not know.
        allowed = [str(member.value) for one in enums for member in one]
        if str(value) not in allowed:
            yield Problem(path, f'"{value}" is not one of {", ".join(allowed)}{_did_you_mean(str(value), allowed)}')
    elif not any(_scalar_fits(shape, value) for shape in shapes):
        yield Problem(path, f"expected {_words(shapes)}, got {value!r}")


def _shapes(kind: Any) -> Iterator[Any]:
    """Yield the alternatives of an SDK type without the wrappers for outputs and awaitables."""
    origin = typing.get_origin(kind)
    if origin is typing.Union:
        for part in typing.get_args(kind):
            yield from _shapes(part)
    elif origin is collections.abc.Awaitable or kind is type(None) or _is_output(kind):
        return
    else:
        yield kind


def _is_output(kind: Any) -> bool:
    return getattr(typing.get_origin(kind), "__name__", "") == "Output"


def _scalar_fits(shape: Any, value: Any) -> bool:
    if shape is bool:
        return isinstance(value, bool)
    if shape is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if shape is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return shape is str and isinstance(value, str)


def _required(arguments: type) -> Iterator[str]:
    names = _types.input_type_py_to_pulumi_names(arguments)
    signature = inspect.signature(arguments.__init__)  # type: ignore[misc]  # the class itself, never an instance
    for name, parameter in signature.parameters.items():
        if name in names and parameter.default is inspect.Parameter.empty:
            yield names[name]


def _words(shapes: list[Any]) -> str:
    return " or ".join(sorted({_word(shape) for shape in shapes}))


def _word(shape: Any) -> str:
    words = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
    if shape in words:
        return words[shape]
    origin = typing.get_origin(shape)
    if origin is collections.abc.Sequence:
        return "a list"
    if origin is collections.abc.Mapping or _types.is_input_type(shape):
        return "an object"
    return str(getattr(shape, "__name__", shape))


def _did_you_mean(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f' (did you mean "{close[0]}"?)' if close else ""


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
