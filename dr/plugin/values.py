"""Property values as plain Python, and back.

- Numbers travel as floats; a whole one comes back as `int`, and any number may be given to `wrap`.
- An unknown of a preview arrives as the string `UNKNOWN`; the SDK cannot send its own `Computed` back, so outputs
  that are not known yet are left out.
- A secret stays one only where the provider marks it: a plain output derived from a secret is plain in the state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pulumi.provider.experimental.property_value import Computed, PropertyValue, ResourceReference

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


def unwrap(value: PropertyValue) -> Any:
    """Return `value` as plain Python: dict, list, str, bool, int, float or None; secrets are opened."""
    content = value.value
    if isinstance(content, Computed):
        return UNKNOWN
    if isinstance(content, ResourceReference):
        return unwrap(content.resource_id) if content.resource_id is not None else content.urn
    if isinstance(content, Mapping):
        return {key: unwrap(item) for key, item in content.items()}
    if isinstance(content, Sequence) and not isinstance(content, str):
        return [unwrap(item) for item in content]
    if isinstance(content, float) and content.is_integer():
        return int(content)
    return content


def unwrap_all(properties: Mapping[str, PropertyValue]) -> dict[str, Any]:
    """Return a property map as plain Python."""
    return {key: unwrap(value) for key, value in properties.items()}


def wrap(value: Any, *, secret: bool = False) -> PropertyValue:
    """Return plain Python as a property value; `secret` marks the whole of it."""
    content = value
    if isinstance(value, Mapping):
        content = {str(key): wrap(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        content = [wrap(item) for item in value]
    elif isinstance(value, int) and not isinstance(value, bool):
        content = float(value)
    return PropertyValue(content, is_secret=secret)


def wrap_all(values: Mapping[str, Any], *, secrets: Iterable[str] = ()) -> dict[str, PropertyValue]:
    """Return a plain map as properties; the keys in `secrets` are marked; None is left out."""
    marked = frozenset(secrets)
    return {key: wrap(value, secret=key in marked) for key, value in values.items() if value is not None}


def has_unknown(value: Any) -> bool:
    """Say whether a plain value is, or holds anywhere, the unknown of a preview."""
    if isinstance(value, Mapping):
        return any(has_unknown(item) for item in value.values())
    if isinstance(value, list | tuple):
        return any(has_unknown(item) for item in value)
    return bool(value == UNKNOWN)
