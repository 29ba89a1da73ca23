"""The models of an `azure-mgmt-*` release, read from their source: nothing of it is imported.

Importing one such package takes seconds and tens of megabytes; what is asked here is written in it as literals. Two
styles of generated models are in use, and both come out as the same `Model`:

    msrest      `_attribute_map` {attribute: {"key": wire path, "type"}}, `_validation` {attribute: required, readonly,
                pattern, …}, `_subtype_map`; types of enums only in the annotations of `__init__`
    TypeSpec    `attribute: type = rest_field(name=wire name, visibility=[…])`, `rest_discriminator`, sub-types by
                `class Sub(Base, discriminator="value")`, `__flattened_items`; inherits what it does not repeat

A property is known by the last part of its wire path, or by its attribute in camel case: azure-native takes the one
where the service's own specification gives it no other name for clients, else the other.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

_SCALARS = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "decimal.Decimal": "number",
    "bool": "boolean",
    "datetime.datetime": "time",
    "datetime.date": "date",
    "datetime.timedelta": "duration",
    "bytes": "string",
}
LIMITS = ("min_length", "max_length", "pattern", "minimum", "maximum", "min_items", "max_items")
_NOTHING = ast.Dict([], [])
_SENT = {"create", "update"}
_DISCRIMINATED = re.compile(r'class (\w+)\(\s*(\w+),\s*discriminator="([^"]*)"')


@dataclass(frozen=True, slots=True)
class Shape:
    """What a value must be; `of` is the item of a list or map, `name` the model, `values` those of an enum."""

    kind: str  # "string" … as in _SCALARS, "enum", "model", "list", "map", "any"
    of: Shape | None = None
    name: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Property:
    names: tuple[str, ...]  # the wire name first
    shape: Shape
    required: bool = False
    read_only: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Model:
    """One object of a request; `subtypes` gives the model for each value of the property `discriminator`."""

    name: str
    properties: tuple[Property, ...]
    discriminator: str | None = None
    subtypes: Mapping[str, str] = field(default_factory=dict)


class Models:
    """The models below one folder `models` of a release."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._read: dict[str, Model] = {}

    def model(self, name: str) -> Model:
        """Return a model. `KeyError` when the release has none of that name."""
        if name not in self._read:
            node = self._sources.class_(name)
            self._read[name] = self._msrest(node) if _assigned(node, "_attribute_map") else self._typespec(node)
        return self._read[name]

    def is_enum(self, name: str) -> bool:
        """Tell whether a name is an enum's."""
        return bool(self._sources.enum(name))

    def shape(self, annotation: ast.expr | None) -> Shape:
        """Return the shape that an annotation stands for; what is not understood is an error, not "anything"."""
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            annotation = ast.parse(annotation.value, mode="eval").body
        text = ast.unparse(annotation) if annotation is not None else "Any"
        if text in {"Any", "JSON", "object"}:
            return Shape("any")
        if text in _SCALARS:
            return Shape(_SCALARS[text])
        if isinstance(annotation, ast.Subscript):
            return self._generic(annotation)
        name = text.rpartition(".")[2]
        values = self._sources.enum(name)
        return Shape("enum", name=name, values=values) if values else Shape("model", name=name)

    def _generic(self, annotation: ast.Subscript) -> Shape:
        outer = ast.unparse(annotation.value).rpartition(".")[2].lower()
        inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
        if outer == "optional":
            return self.shape(inner[0])
        if outer in {"list", "sequence"}:
            return Shape("list", self.shape(inner[0]))
        if outer in {"dict", "mapping"}:
            return Shape("map", self.shape(inner[1]))
        if outer == "literal":
            return Shape("enum", values=tuple(self._literal(value) for value in inner))
        parts = [self.shape(part) for part in inner if ast.unparse(part) != "None"]
        enums = [part for part in parts if part.kind == "enum"]
        if outer != "union" or not (len(parts) == 1 or (len(parts) == 2 and enums)):
            raise NotImplementedError(f"the annotation {ast.unparse(annotation)} is not understood")
        return enums[0] if enums else parts[0]

    def _literal(self, value: ast.expr) -> str:
        if isinstance(value, ast.Constant):
            return str(value.value)
        enum, _, member = ast.unparse(value).rpartition(".")
        return self._sources.enum_members(enum.rpartition(".")[2])[member]

    def _msrest(self, node: ast.ClassDef) -> Model:
        attributes = ast.literal_eval(_assigned(node, "_attribute_map") or _NOTHING)
        rules = ast.literal_eval(_assigned(node, "_validation") or _NOTHING)
        subtypes = ast.literal_eval(_assigned(node, "_subtype_map") or _NOTHING)
        annotations = _arguments(node)
        properties = []
        for attribute, entry in attributes.items():
            rule = rules.get(attribute, {})
            properties.append(
                Property(
                    names=_names(_last(entry["key"]), attribute),
                    shape=self.shape(annotations.get(attribute, ast.Name("str"))),
                    required=bool(rule.get("required")),
                    read_only=bool(rule.get("readonly")),
                    limits={name: rule[name] for name in LIMITS if name in rule},
                )
            )
        attribute = next(iter(subtypes), None)
        discriminator = _last(attributes[attribute]["key"]) if attribute else None
        return Model(node.name, tuple(properties), discriminator, subtypes.get(attribute, {}))

    def _typespec(self, node: ast.ClassDef) -> Model:
        found: dict[str, Property] = {}
        discriminator: str | None = None
        for base in node.bases:
            if self._sources.has(ast.unparse(base)):
                inherited = self.model(ast.unparse(base))
                found = {one.names[0]: one for one in inherited.properties}
        for line in node.body:
            if (
                isinstance(line, ast.AnnAssign)
                and isinstance(line.target, ast.Name)
                and isinstance(line.value, ast.Call)
            ):
                one = self._rest_field(line.target.id, line.annotation, line.value)
                found[one.names[0]] = one
                if ast.unparse(line.value.func) == "rest_discriminator" and not _is_literal(line.annotation):
                    discriminator = one.names[0]
        if _assigned(node, "__flattened_items"):
            nested = found.pop("properties")
            found |= {one.names[0]: one for one in self.model(nested.shape.name).properties}
        return Model(node.name, tuple(found.values()), discriminator, dict(self._sources.subtypes(node.name)))

    def _rest_field(self, attribute: str, annotation: ast.expr, call: ast.Call) -> Property:
        said = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg in {"name", "visibility"}}
        read_only = "visibility" in said and not _SENT & set(said["visibility"])
        return Property(
            names=_names(said.get("name", attribute), attribute),
            shape=self.shape(annotation),
            required=not read_only and not ast.unparse(annotation).startswith("Optional["),
            read_only=read_only,
        )


class Sources:
    """The text of a folder of modules, of which single classes and functions are parsed: whole files take seconds."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def class_(self, name: str) -> ast.ClassDef:
        """Return a class. `KeyError` when there is none."""
        node = self._top_level("class", name)
        assert isinstance(node, ast.ClassDef)
        return node

    def function(self, name: str, *, beside: str) -> ast.FunctionDef:
        """Return a function of the module that has the class `beside`. `KeyError` when there is none."""
        node = self._top_level("def", name, beside)
        assert isinstance(node, ast.FunctionDef)
        return node

    def has(self, name: str) -> bool:
        """Tell whether there is such a class."""
        return self._find("class", name) is not None

    def enum(self, name: str) -> tuple[str, ...]:
        """Return the values of an enum; none when the name is no enum's."""
        return tuple(self.enum_members(name).values())

    def enum_members(self, name: str) -> dict[str, str]:
        """Return member and value of an enum."""
        if not self.has(name):
            return {}
        node = self.class_(name)
        if not any("Enum" in ast.unparse(base) for base in node.bases):
            return {}
        pairs = [line for line in node.body if isinstance(line, ast.Assign) and isinstance(line.value, ast.Constant)]
        return {ast.unparse(line.targets[0]): str(ast.literal_eval(line.value)) for line in pairs}

    def subtypes(self, base: str) -> Iterator[tuple[str, str]]:
        """Yield discriminator value and class of each TypeSpec sub-type of `base`."""
        for text in self._texts:
            for name, of, value in _DISCRIMINATED.findall(text):
                if of == base:
                    yield value, name

    @cached_property
    def _texts(self) -> list[str]:
        # What is written by hand lies in `_patch.py`, and only adds to what is generated.
        return [f"\n{path.read_text()}" for path in sorted(self._folder.glob("*.py")) if path.name != "_patch.py"]

    def _top_level(self, word: str, name: str, beside: str = "") -> ast.stmt:
        found = self._find(word, name, f"\nclass {beside}" if beside else "")
        if found is None:
            raise KeyError(f"{self._folder} has no {word} {name}")
        text, start = found
        ends = [end for end in (text.find(f"\n{stop}", start + 1) for stop in ("class ", "def ", "@")) if end > 0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the generated docstrings' backslashes
            return ast.parse(text[start : min(ends, default=len(text))]).body[0]

    def _find(self, word: str, name: str, beside: str = "") -> tuple[str, int] | None:
        for text in self._texts:
            for opening in ("(", ":"):
                start = text.find(f"\n{word} {name}{opening}")
                if start >= 0 and beside in text:
                    return text, start
        return None


def camel(attribute: str) -> str:
    """Return a Python name in camel case."""
    first, *rest = attribute.strip("_").split("_")
    return first + "".join(part[:1].upper() + part[1:] for part in rest)


def _names(wire: str, attribute: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys((wire[:1].lower() + wire[1:], camel(attribute))))


def _last(key: str) -> str:
    """Return the last part of a wire path; a dot in a name is written with a backslash."""
    return re.split(r"(?<!\\)\.", key)[-1].replace("\\", "")


def _assigned(node: ast.ClassDef, name: str) -> ast.expr | None:
    for line in node.body:
        if isinstance(line, ast.Assign) and ast.unparse(line.targets[0]) == name:
            return line.value
        if isinstance(line, ast.AnnAssign) and ast.unparse(line.target) == name:
            return line.value
    return None


def _arguments(node: ast.ClassDef) -> dict[str, ast.expr]:
    for line in node.body:
        if isinstance(line, ast.FunctionDef) and line.name == "__init__":
            return {one.arg: one.annotation for one in line.args.kwonlyargs if one.annotation is not None}
    return {}


def _is_literal(annotation: ast.expr) -> bool:
    return ast.unparse(annotation).startswith("Literal[")
