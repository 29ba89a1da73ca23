"""Check one document against its kind's definition; the words for what is wrong are `dr.schema.wording`. Pure.

Rules: every error of a document is found, not the first. `prepare` leaves a document with defaults filled in and every
value that was refused taken out, so that the checks across documents can go on without falling over what has been said
already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator, ValidationError, validators
from jsonschema.protocols import Validator

from dr.schema import durations
from dr.schema.definition.words import Schema
from dr.schema.document import Document, Path
from dr.schema.findings import Finding
from dr.schema.wording import Wrong, explain


def prepare(document: Document, kind: str, definition: Schema) -> list[Finding]:
    """Return what is wrong with the document's shape; fill in defaults and take out what was refused."""
    fill_defaults(document.data, definition)
    errors = [Wrong.of(error) for error in _VALIDATOR(definition).iter_errors(document.data)]
    refused = {error.path for error in errors if error.keyword == "x-refused"}
    errors = [error for error in errors if error.path not in refused or error.keyword == "x-refused"]
    findings = [finding for error in errors for finding in explain(document, kind, error)]
    for path in sorted(document.bad | {error.path for error in errors if error.keyword not in _ABOUT_CONTENT}, key=len):
        _take_out(document.data, path)
    return findings


def fill_defaults(value: Any, definition: Schema) -> None:
    """Add every default that `definition` has and `value` lacks, at all depths."""
    if isinstance(value, dict):
        for key, shape in definition.get("properties", {}).items():
            if key not in value and "default" in shape:
                default = shape["default"]
                value[key] = default.copy() if isinstance(default, list | dict) else default
            if key in value:
                fill_defaults(value[key], shape)
    elif isinstance(value, list) and "items" in definition:
        for item in value:
            fill_defaults(item, definition["items"])


def _take_out(data: Any, path: Path) -> None:
    """Remove a mapping's key, or put None in a list's place (the others keep their indexes)."""
    if not path:
        return
    parent = data
    for step in path[:-1]:
        try:
            parent = parent[step]
        except (KeyError, TypeError, IndexError):  # taken out with something above it
            return
    last = path[-1]
    if isinstance(parent, dict):
        parent.pop(last, None)
    elif isinstance(parent, list) and isinstance(last, int):
        parent[last] = None


# Keywords about what a mapping or list holds: the rest of it is still good for further checks.
_ABOUT_CONTENT = {"required", "additionalProperties", "oneOf", "minItems", "maxItems", "uniqueItems"}


def _pattern(_: Validator, pattern: str, value: Any, schema: Schema) -> Iterator[ValidationError]:
    # Empty and overlong text is reported by minLength and maxLength. `$` of Python also matches before a last line
    # break; ours must not.
    if not isinstance(value, str) or not 1 <= len(value) <= schema.get("maxLength", 1000):
        return
    if not re.search(pattern.removesuffix("$") + r"\Z", value):
        yield ValidationError("pattern")


def _at_least(_: Validator, bound: str, value: Any, __: Schema) -> Iterator[ValidationError]:
    if _seconds(value) is not None and (_seconds(value) or 0) < durations.seconds(bound):
        yield ValidationError("x-atLeast")


def _at_most(_: Validator, bound: str, value: Any, __: Schema) -> Iterator[ValidationError]:
    if _seconds(value) is not None and (_seconds(value) or 0) > durations.seconds(bound):
        yield ValidationError("x-atMost")


def _refused(_: Validator, values: list[Schema], value: Any, __: Schema) -> Iterator[ValidationError]:
    says = next((v["says"] for v in values if isinstance(value, str) and re.search(v["pattern"], value)), None)
    if says is not None:
        yield ValidationError(says)


def _seconds(value: Any) -> int | None:
    try:
        return durations.seconds(value)
    except (ValueError, TypeError):
        return None  # its shape is reported by `pattern` or `type`


def _is_integer(_: Any, value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_VALIDATOR = validators.extend(  # type: ignore[no-untyped-call]  # jsonschema leaves it untyped
    Draft202012Validator,
    {"pattern": _pattern, "x-atLeast": _at_least, "x-atMost": _at_most, "x-refused": _refused},
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)
