"""Publish the definition: the JSON Schema that editors use, and the page that lists every key.

`python -m dr.schema.publish` writes `plans/schema.json` and `docs/declaration.md` of the checkout; a test fails when
they are not what this module makes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from dr.schema.definition import KINDS
from dr.schema.definition.words import Schema, every_key
from dr.schema.waiting import WAITING

_INTRODUCTION = """# The declaration: every key

Made from the schema by `python -m dr.schema.publish`; edit `dr/schema/definition/` instead.

A declaration is a folder of YAML files (`*.yaml`, folders below it too). A file holds one document or several,
separated by `---`; names of files don't matter. Each document has a `kind` and a `name`. `dr validate [DIR]` reports
all errors at once, and names as concerns what is well in form and may still surprise: a key that is not acted upon yet
(marked below), a server in no plan. `plans/` is an example; the first line of its files lets editors complete and check
keys.

- Durations are a whole number and a unit: `90s`, `5m`, `24h`, `15d`.
- Names are DNS labels in lower case; their lengths leave room for what Azure's names are made of.
- Anchors, aliases, merge keys and tags are refused, and so is every plain value that YAML readers disagree about
  (`08080`, `on`, `22:22`); the message says what to write.
- No secret is ever written here: keys are named by a path or by an environment variable, passwords and other secrets
  by one of `{env: NAME}`, `{file: PATH}` and `{keyStore: NAME}`. What stands where a secret's place belongs is never
  repeated in a message.
"""


def editor_schema() -> Schema:
    """Return the JSON Schema of one document of any kind."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Lifeboat declaration",
        "description": "One document of a declaration. Made by `python -m dr.schema.publish`.",
        "type": "object",
        "required": ["kind", "name"],
        "properties": {"kind": {"enum": list(KINDS), "description": "What this document declares."}},
        "allOf": [
            {
                "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                "then": {"$ref": f"#/$defs/{kind}"},
            }
            for kind in KINDS
        ],
        "$defs": KINDS,
    }


def schema_text() -> str:
    """Return the content of `plans/schema.json`."""
    return json.dumps(editor_schema(), indent=2, ensure_ascii=False) + "\n"


def reference() -> str:
    """Return the content of `docs/declaration.md`."""
    return "\n".join([_INTRODUCTION, *(line for kind in KINDS for line in _kind(kind, KINDS[kind]))])


def _kind(kind: str, definition: Schema) -> Iterator[str]:
    yield f"## {kind}\n"
    yield f"{definition['description']}\n"
    yield "| key | value | default | meaning |"
    yield "| --- | --- | --- | --- |"
    for key, shape, required in every_key(definition):
        default, waits = "required" if required else _default(shape), WAITING.get(f"{kind}.{key}")
        meaning = shape["description"] + (f" *Not acted upon yet; it waits for: {waits}.*" if waits else "")
        yield _row(key, _value(shape), default, meaning)
    yield ""


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in (f"`{cells[0]}`", *cells[1:])) + " |"


def _default(shape: Schema) -> str:
    return f"`{json.dumps(shape['default']).strip(chr(34))}`" if "default" in shape else "none"


def _value(shape: Schema) -> str:
    choices = [shape["const"]] if "const" in shape else shape.get("enum")
    if choices is not None:
        return ", ".join(f"`{choice}`" for choice in choices)
    if "x-atLeast" in shape:
        return f"duration, `{shape['x-atLeast']}` to `{shape['x-atMost']}`"
    words = {"integer": _integer, "boolean": _truth, "array": _list, "object": _object, "string": _text}
    return words[shape["type"]](shape)


def _integer(shape: Schema) -> str:
    return f"whole number, {shape['minimum']} to {shape['maximum']}"


def _truth(_: Schema) -> str:
    return "`true` or `false`"


def _object(shape: Schema) -> str:
    return "mapping" if "properties" in shape else f"mapping of texts, at most {shape['maxProperties']}"


def _text(shape: Schema) -> str:
    longest = f", at most {shape['maxLength']} characters" if shape["maxLength"] < 1000 else ""
    example = f"; example: `{shape['examples'][0]}`" if "examples" in shape else ""
    return str(shape.get("patternErrorMessage", "text")) + longest + example


def _list(shape: Schema) -> str:
    least = "at least one" if shape["minItems"] else "may be empty"
    most = f", at most {shape['maxItems']}" if "maxItems" in shape else ""
    return f"list, {least}{most}"


def main() -> None:
    """Write both files into the checkout that this module is a part of."""
    root = Path(__file__).parents[2]
    (root / "plans" / "schema.json").write_text(schema_text(), encoding="utf-8")
    (root / "docs" / "declaration.md").write_text(reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
