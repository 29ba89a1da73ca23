"""Say in plain words what is wrong with the shape of a document. Pure.

Rules: one mistake gives one line (a misspelt key is not also reported as missing); each says what the value must be,
what was found and, where that can be told, what was meant; nothing below a key of `dr.schema.secret` is repeated.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from jsonschema import ValidationError

from dr.schema.definition.words import Schema
from dr.schema.document import Document, Path
from dr.schema.findings import Finding, closest, quoted
from dr.schema.scalars import Decimal
from dr.schema.secret import WRITTEN_HERE, is_secret


@dataclass(frozen=True, slots=True)
class Wrong:
    """An error of jsonschema: `keyword: demand` of `schema` refused `value` at `path`."""

    path: Path
    keyword: str
    demand: Any
    value: Any
    schema: Schema
    message: str
    about_key: bool  # a mapping's key was refused, not a value

    @classmethod
    def of(cls, error: ValidationError) -> Wrong:
        return cls(
            path=tuple(error.absolute_path),
            keyword=str(error.validator),
            demand=error.validator_value,
            value=error.instance,
            schema=cast(Schema, error.schema),
            message=error.message,
            about_key="propertyNames" in error.absolute_schema_path,
        )


def explain(document: Document, kind: str, error: Wrong) -> Iterator[Finding]:
    """Yield the findings about one error; none where it only follows from what was said already."""
    path = error.path
    if any(path[:length] in document.bad for length in range(len(path) + 1)):
        return
    if error.keyword == "additionalProperties":
        yield from _unknown_keys(document, kind, path, error)
    elif error.keyword == "required":
        yield from _missing_key(document, kind, path, error)
    elif error.keyword == "oneOf":
        yield from _not_exactly_one(document, path, error)
    elif error.about_key:
        key = error.value
        message = f"tag {quoted(key)}: its key must be {error.schema['patternErrorMessage']}"
        yield document.finding((*path, key), message, at_key=True)
    elif error.keyword == "x-refused":
        yield document.finding(path, f"{_label(path)} {quoted(error.value)} {error.message}")
    elif is_secret(path):
        yield document.finding(path, f"{_label(path)} {_demand_of_secret(error)}")
    else:
        yield document.finding(path, f"{_label(path)} {_demand(error)}", _meant(error))


def _unknown_keys(document: Document, kind: str, path: Path, error: Wrong) -> Iterator[Finding]:
    known = list(error.schema["properties"])
    for key in _unknown(error):
        where = f"in {_label(path)}" if path else f"of kind {kind}"
        meant = closest(key, known)
        # `{hunter2}` is a mapping too, with the secret as its key.
        message = f"unknown key {where}" if is_secret(path) else f"unknown key {quoted(key)} {where}"
        if meant is None:
            message += f"; it has {', '.join(known)}" + (f"; {WRITTEN_HERE}" if is_secret(path) else "")
        yield document.finding((*path, key), message, meant, at_key=True)


def _missing_key(document: Document, kind: str, path: Path, error: Wrong) -> Iterator[Finding]:
    properties = error.schema["properties"]
    # jsonschema names the missing key only in its message; each error is about one of the required ones.
    missing = next(key for key in error.demand if error.message.startswith(f"{key!r} "))
    for written in error.value:
        if written not in properties and closest(written, properties) == missing:
            return
    where = f"{_label(path)} lacks" if path else f"this {kind} lacks"
    yield document.finding(path, f'{where} the key "{missing}"')


def _not_exactly_one(document: Document, path: Path, error: Wrong) -> Iterator[Finding]:
    if not isinstance(error.value, dict):  # reported by `type`
        return
    names = [choice["required"][0] for choice in error.demand]
    found = [name for name in names if name in error.value]
    if not found and _unknown(error):  # one of them is meant, and is reported
        return
    says = f"must have exactly one of {_listed(names)}; found {_listed(found) or 'none'}"
    yield document.finding(path, f"{_label(path)} {says}")


def _unknown(error: Wrong) -> list[str]:
    return [key for key in error.value if key not in error.schema["properties"]]


def _label(path: Path) -> str:
    if not path:
        return "the document"
    if isinstance(path[-1], int):
        return f"item {path[-1] + 1} of {_label(path[:-1])}"
    return path[-1]


def _demand_of_secret(error: Wrong) -> str:
    """Return what the value must be without a word of what was found."""
    if error.keyword == "type" and error.value is not None:
        wanted = f"{_TYPES[error.demand]}{_with(error)}"
        if "keyStore" in error.schema.get("properties", {}):
            wanted = "{env: NAME}, {file: PATH} or {keyStore: NAME}, which say where the secret is"
        return f"must be {wanted}; {WRITTEN_HERE}"
    if error.keyword == "pattern":
        return f"must be {error.schema['patternErrorMessage']}; {WRITTEN_HERE}"
    return _demand(error)


def _demand(error: Wrong) -> str:
    """Return the sentence's end: what the value must be, and what was found."""
    value, bound = error.value, error.demand
    found = f"; found {_describe(value)}"
    if error.keyword == "type":
        return _wrong_type(value, error)
    if error.keyword == "pattern":
        return f"must be {error.schema['patternErrorMessage']}{found}"
    if error.keyword == "enum":
        return f"must be {_listed(bound, 'or')}{found}"
    if error.keyword in _FIXED:
        return _FIXED[error.keyword]
    if error.keyword in _COUNTED:
        return f"must have at most {bound} {_COUNTED[error.keyword]}; found {len(value)}"
    least = error.keyword in {"minimum", "x-atLeast"}
    return f"must be at {'least' if least else 'most'} {bound}{found}"


_FIXED = {
    "minLength": "may not be empty",
    "minItems": "may not be empty",
    "uniqueItems": "has the same item twice; take one out",
}
_PLAIN = {"integer": "[0-9]+", "boolean": "true|false"}
_TYPES = {
    "string": "text",
    "integer": "a whole number",
    "boolean": "true or false",
    "object": "a mapping",
    "array": "a list",
}
_COUNTED = {"maxLength": "characters", "maxItems": "items", "maxProperties": "keys"}


def _wrong_type(value: Any, error: Wrong) -> str:
    wanted, pattern = error.demand, error.schema.get("pattern")
    if value is None:
        return f"has no value; it must be {_TYPES[wanted]}{_with(error)}"
    hint = ""
    if isinstance(value, int | Decimal) and pattern is not None and not re.search(pattern, _raw(value)):
        return f"must be {error.schema['patternErrorMessage']}; found {_describe(value)}"
    if wanted == "string" and isinstance(value, int | Decimal):
        hint = f'; write "{_raw(value)}" in quotes for the text'
    elif isinstance(value, str) and re.fullmatch(_PLAIN.get(wanted, "(?!)"), value):
        hint = "; write it without quotes"
    elif wanted == "array" and not isinstance(value, dict) and error.schema["items"].get("type") != "object":
        hint = f"; write [{', '.join(_raw(value).replace(',', ' ').split())}]"
    # A text where a mapping is wanted may be anything, a password too.
    found = "text" if wanted == "object" and isinstance(value, str) else _describe(value)
    return f"must be {_TYPES[wanted]}{_with(error)}; found {found}{hint}"


def _with(error: Wrong) -> str:
    """Return which keys a mapping has, for one that is no mapping at all."""
    if error.schema.get("required"):
        return f" with {_listed(error.schema['required'])}"
    return f" with {_listed(list(error.schema['properties']), 'or')}" if "properties" in error.schema else ""


def _raw(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value.text if isinstance(value, Decimal) else str(value)


def _describe(value: Any) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if isinstance(value, bool):
        return f"the truth value {_raw(value)}"
    return "nothing" if value is None else f"the number {_raw(value)}"


def _listed(words: list[str], last: str = "and") -> str:
    *first, end = [f'"{word}"' for word in words] or [""]
    return f"{', '.join(first)} {last} {end}" if first else end


def _meant(error: Wrong) -> str | None:
    value = error.value
    if not isinstance(value, str) or error.keyword not in {"enum", "pattern"}:
        return None
    if error.keyword == "enum":
        return closest(value, error.demand)
    return next((word for word in _repairs(value) if word != value and re.search(error.demand, word)), None)


def _repairs(value: str) -> Iterator[str]:
    """Yield what people often mean: capitals, spaces and underscores in names, a VM size without its prefix."""
    if len(value) > 60 or "PRIVATE KEY" in value:
        return
    yield value.strip(" .")
    yield value.lower()
    yield re.sub(r"[ _.]+", "-", value.strip().lower())
    yield value.lower().replace(" ", "")
    size = re.sub("^standard[_ ]?", "", value, flags=re.IGNORECASE)
    yield f"Standard_{size[:1].upper()}{size[1:]}"
