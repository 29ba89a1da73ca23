"""What the definitions of all kinds are written with: texts, numbers, lists, durations, secrets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dr.schema import durations

Schema = dict[str, Any]

# Names below the site. `disk-SERVER-DISK-RUN` has at most 80 characters, RUN at most 24.
SERVER_NAME_LENGTH = 32

ADDRESS = "^[0-9]{1,3}(\\.[0-9]{1,3}){3}$"
_PREFIX = "^[0-9]{1,3}(\\.[0-9]{1,3}){3}/[0-9]{1,2}$"
_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?"


def mapping(description: str, properties: Schema, required: list[str], **more: Any) -> Schema:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": required,
        "additionalProperties": False,
        **more,
    }


def document(kind: str, description: str, name: Schema, properties: Schema, required: list[str]) -> Schema:
    head = {"kind": {"type": "string", "const": kind, "description": f"`{kind}`."}, "name": name}
    return mapping(description, head | properties, ["kind", "name", *required])


def every_key(shape: Schema, prefix: str = "") -> Iterator[tuple[str, Schema, bool]]:
    """Yield each key below a definition as it is named in the documentation, its shape, and whether it is required.

    What stands in a list has `[]` behind the list's name: `groups[].checks[].timeout`.
    """
    for key, below in shape.get("properties", {}).items():
        name, inner = f"{prefix}{key}", below
        yield name, below, key in shape["required"]
        while inner.get("type") == "array":
            name, inner = f"{name}[]", inner["items"]
        yield from every_key(inner, f"{name}.")


def exactly_one(*keys: str) -> list[Schema]:
    """Return the value of `oneOf` that demands one of the keys and no second."""
    return [{"required": [key]} for key in keys]


def array(description: str, items: Schema, *, least: int = 1, most: int | None = None, **more: Any) -> Schema:
    bounds: Schema = {"minItems": least} if most is None else {"minItems": least, "maxItems": most}
    return {"type": "array", "description": description, "items": items, **bounds, **more}


def text(description: str, pattern: str | None = None, says: str = "", **more: Any) -> Schema:
    shape: Schema = {"type": "string", "description": description, "minLength": 1, "maxLength": 1000}
    if pattern is not None:
        shape |= {"pattern": pattern, "patternErrorMessage": says}
    return shape | more


def choice(description: str, *words: str, **more: Any) -> Schema:
    return {"enum": list(words), "description": description, **more}


def name(description: str, longest: int, **more: Any) -> Schema:
    says = "lower-case letters, digits and single hyphens, beginning with a letter and not ending with a hyphen"
    return text(description, "^[a-z][a-z0-9]*(-[a-z0-9]+)*$", says, maxLength=longest, **more)


def refused(pattern: str, says: str) -> Schema:
    """Return an item of `x-refused`."""
    return {"pattern": pattern, "says": says}


def number(description: str, least: int, most: int, **more: Any) -> Schema:
    return {"type": "integer", "description": description, "minimum": least, "maximum": most, **more}


def port(description: str, default: int | None = None) -> Schema:
    shape = number(description, 1, 65535)
    return shape if default is None else shape | {"default": default}


def truth(description: str, *, default: bool) -> Schema:
    return {"type": "boolean", "description": description, "default": default}


def duration(description: str, least: str, most: str, default: str | None = None) -> Schema:
    says = "a whole number and its unit, s, m, h or d, for example 5m"
    if default is None:
        says += ", or left out"
    shape = text(description, durations.PATTERN, says) | {"x-atLeast": least, "x-atMost": most}
    return shape if default is None else shape | {"default": default}


def host(description: str) -> Schema:
    return text(description, f"^{_LABEL}(\\.{_LABEL})*$", "an IPv4 address or a host name", maxLength=253)


def address(description: str) -> Schema:
    return text(description, ADDRESS, "an IPv4 address")


def prefix(description: str) -> Schema:
    return text(description, _PREFIX, "an IPv4 network such as 10.20.1.0/24")


def key_file() -> Schema:
    return text(
        "Path of the private key: absolute, with `~`, or relative to the declaration's folder.",
        "^(?!.*PRIVATE KEY)[^\\n]+$",
        "the path of the key's file, not the key",
    )


def variable(description: str) -> Schema:
    return text(description, "^[A-Za-z_][A-Za-z0-9_]*$", "the name of an environment variable")


def user(description: str) -> Schema:
    says = "a user name: letters, digits, `_`, `.` and `-`"
    return text(description, "^[A-Za-z_][A-Za-z0-9_.-]*$", says, maxLength=32)


def host_key(description: str) -> Schema:
    return text(description, examples=["ssh-ed25519 AAAAC3Nza…"], maxLength=4000)


def secret(description: str) -> Schema:
    """Return the shape of a reference to a secret. The key it stands under must be one of `dr.schema.secret.KEYS`."""
    return mapping(
        f"{description} Exactly one of `env`, `file` and `keyStore` says where it is; the secret itself is never"
        " written here.",
        {
            "env": variable("Name of an environment variable that holds the secret."),
            "file": text(
                "Path of a file that holds the secret and nothing else: absolute, with `~`, or relative to the"
                " declaration's folder.",
                "^(?!.*PRIVATE KEY)[^\\n]+$",
                "the path of a file",
            ),
            "keyStore": text(
                "Name of the secret in the site's key store.",
                "^[a-z0-9]+(-[a-z0-9]+)*$",
                "a name in the key store: lower-case letters, digits and single hyphens",
                maxLength=100,
            ),
        },
        [],
        oneOf=exactly_one("env", "file", "keyStore"),
    )
