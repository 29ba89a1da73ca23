"""What the SDK knows about a resource type: names, types, enums and required ones of its inputs, nested ones too.

The installed SDK is the specification; nothing about a type is written down here. Reading it means importing modules
of several seconds, so what was read is kept in the cache, per version of the SDK:

    {"types": {TOKEN: CLASS}, "classes": {CLASS: {"required": [NAME], "properties": {NAME: [SHAPE]}}}}

A SHAPE is {"scalar": "str"|"int"|"float"|"bool"}, {"enum": [VALUE]}, {"class": CLASS}, {"list": [SHAPE]} or
{"map": [SHAPE]}; several are alternatives, none at all means anything.

Only unversioned tokens are known (`azure-native:compute:Disk`), because they are what the pinned SDK means by its
default version.
"""

from __future__ import annotations

import collections.abc
import difflib
import enum
import importlib
import importlib.metadata
import inspect
import json
import typing
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pulumi import _types

from dr.durable import write_durably
from dr.errors import Refused
from dr.plugin.values import UNKNOWN

SDK = "pulumi_azure_native"
FORMAT = 2
OUTGROWN = frozenset({"VirtualMachineSizeTypes"})
"""Enums that the SDK itself documents as a stale sample of what the service knows; any string is let through."""
Shape = Mapping[str, Any]
_SCALARS = {str: "str", int: "int", float: "float", bool: "bool"}
_WORDS = {"str": "a string", "int": "a whole number", "float": "a number", "bool": "true or false"}


@dataclass(frozen=True, slots=True)
class Problem:
    """One property that the SDK would not accept; `path` as the engine writes it."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Metadata:
    """The inputs of some resource types."""

    types: Mapping[str, str]
    classes: Mapping[str, Mapping[str, Any]]

    def has_input(self, token: str, name: str) -> bool:
        """Say whether a type has an input of that name."""
        return name in self.classes[self.types[token]]["properties"]

    def problems(self, token: str, values: Mapping[str, Any]) -> Iterator[Problem]:
        """Yield what is unknown, missing or of the wrong type in plain inputs; unknowns of a preview pass."""
        return self._object(self.types[token], values, "")

    def _object(self, name: str, values: Mapping[str, Any], path: str) -> Iterator[Problem]:
        known = self.classes[name]["properties"]
        for key in sorted(values.keys() - known.keys()):
            if not key.startswith("__"):
                yield Problem(_join(path, key), f'unknown property "{key}"{_did_you_mean(key, known)}')
        for key in self.classes[name]["required"]:
            if values.get(key) is None:
                yield Problem(_join(path, key), f'missing required property "{key}"')
        for key, shapes in known.items():
            if values.get(key) is not None:
                yield from self._value(shapes, values[key], _join(path, key))

    def _value(self, shapes: list[Shape], value: Any, path: str) -> Iterator[Problem]:
        if not shapes or value == UNKNOWN:
            return
        by_kind = {kind: content for shape in shapes for kind, content in shape.items()}
        if isinstance(value, Mapping) and "class" in by_kind:
            yield from self._object(by_kind["class"], value, path)
        elif isinstance(value, Mapping) and "map" in by_kind:
            for key, item in value.items():
                yield from self._value(by_kind["map"], item, f"{path}.{key}")
        elif isinstance(value, list) and "list" in by_kind:
            for index, item in enumerate(value):
                yield from self._value(by_kind["list"], item, f"{path}[{index}]")
        elif isinstance(value, str) and "enum" in by_kind:
            # Where the SDK allows any string beside the enum, Azure itself refuses what it does not know.
            allowed = by_kind["enum"]
            if value not in allowed:
                meant = _did_you_mean(value, allowed)
                yield Problem(path, f'"{value}" is not one of {", ".join(allowed)}{meant}')
        elif not any(_scalar_fits(shape.get("scalar"), value) for shape in shapes):
            yield Problem(path, f"expected {_words(shapes)}, got {_said(value)}")


def metadata(tokens: Collection[str], cache: Path) -> Metadata:
    """Return the inputs of `tokens`, from the cache folder if they were read before."""
    version = importlib.metadata.version("pulumi-azure-native")
    path = cache / f"azure-native-{version}-inputs-v{FORMAT}.json"
    try:
        kept = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        kept = {"types": {}}
    if not set(tokens) <= kept["types"].keys():
        kept = read_sdk(tokens)
        cache.mkdir(parents=True, exist_ok=True)
        write_durably(path, json.dumps(kept).encode(), mode=0o644)
    return Metadata(kept["types"], kept["classes"])


def read_sdk(tokens: Collection[str]) -> dict[str, Any]:
    """Read the inputs of `tokens`, and all they are made of, from the SDK; seconds."""
    found = {token: arguments_class(token) for token in sorted(tokens)}
    classes: dict[str, Any] = {}
    todo = list(found.values())
    while todo:
        one = todo.pop()
        if _name(one) not in classes:
            properties = {name: _shapes(kind, todo) for name, kind in _types.input_type_types(one).items()}
            classes[_name(one)] = {"required": list(_required(one)), "properties": properties}
    return {"types": {token: _name(one) for token, one in found.items()}, "classes": classes}


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


def _shapes(kind: Any, todo: list[type]) -> list[Shape]:
    """Return the shapes of an SDK type without its wrappers for outputs and awaitables; classes go to `todo`."""
    origin = typing.get_origin(kind)
    if origin is typing.Union:
        return [shape for part in typing.get_args(kind) for shape in _shapes(part, todo)]
    if origin is collections.abc.Sequence:
        return [{"list": _shapes(typing.get_args(kind)[0], todo)}]
    if origin is collections.abc.Mapping:
        return [{"map": _shapes(typing.get_args(kind)[1], todo)}]
    if kind in _SCALARS:
        return [{"scalar": _SCALARS[kind]}]
    return _class_shapes(kind, todo) if inspect.isclass(kind) else []


def _class_shapes(kind: type, todo: list[type]) -> list[Shape]:
    if issubclass(kind, enum.Enum):
        if kind.__name__ in OUTGROWN:
            return [{"scalar": "str"}]
        return [{"enum": [str(member.value) for member in kind]}]
    if _types.is_input_type(kind):
        todo.append(kind)
        return [{"class": _name(kind)}]
    return []


def _required(arguments: type) -> Iterator[str]:
    names = _types.input_type_py_to_pulumi_names(arguments)
    signature = inspect.signature(arguments.__init__)  # type: ignore[misc]  # the class itself, never an instance
    for name, parameter in signature.parameters.items():
        if name in names and parameter.default is inspect.Parameter.empty:
            yield names[name]


def _name(one: type) -> str:
    return f"{one.__module__.removeprefix(SDK + '.')}.{one.__name__}"


def _scalar_fits(scalar: str | None, value: Any) -> bool:
    if isinstance(value, bool):
        return scalar == "bool"
    if isinstance(value, int):
        return scalar in {"int", "float"}
    return (scalar == "float" and isinstance(value, float)) or (scalar == "str" and isinstance(value, str))


def _words(shapes: list[Shape]) -> str:
    words = {"enum": "one of the SDK's values", "class": "an object", "map": "an object", "list": "a list"}
    found = {_WORDS[content] if kind == "scalar" else words[kind] for s in shapes for kind, content in s.items()}
    return " or ".join(sorted(found))


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return "an object"
    return "a list" if isinstance(value, list) else repr(value)


def _did_you_mean(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f' (did you mean "{close[0]}"?)' if close else ""


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
