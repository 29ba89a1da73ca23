"""What a preview says is missing from a stack's state, and which of it exists already. Pure.

`pulumi preview --json --import-file` yields the steps with their inputs, and a file that wants ids. The id of an Azure
resource follows from its inputs; those that only an earlier resource knows are unknown at first, so the import goes in
rounds: what can be named is imported, the next preview knows more. Our own types need no import: their `create` takes
over what exists.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"  # as Pulumi writes an unknown value
OURS, AZURE = "dr:index:", "azure-native:"
_LEFT_ALONE = frozenset({"same", "read", "refresh", "read-replacement"})
_TAKEN_OVER = frozenset({"CertificateAuthority", "VaultAccess", "Retention", "SiteServers", "Protection"})
_MADE_AGAIN = frozenset({"VaultAccess", "SiteServers"})  # of the site's folder, which is gone
Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a preview; `type` without the components above it."""

    op: str
    urn: str
    type: str
    name: str
    inputs: Mapping[str, Any]

    @property
    def label(self) -> str:
        """Return what a person reads: "update Subnet vnet-shop"."""
        return f"{self.op} {self.type.rpartition(':')[2]} {self.name}"


@dataclass(frozen=True, slots=True)
class Round:
    """One import: the entries for Pulumi's file, and the ids that they stand for, by URN."""

    entries: Sequence[Entry]
    ids: Mapping[str, str]


def steps(preview: Mapping[str, Any]) -> list[Step]:
    """Return the steps of `pulumi preview --json` that change something."""
    return [_step(each) for each in preview.get("steps") or () if each["op"] not in _LEFT_ALONE]


def harmless(step: Step) -> bool:
    """Tell whether a step only takes over what exists, or makes the site's folder again."""
    kind = step.type.removeprefix(OURS)
    if not step.type.startswith(OURS):
        return step.op == "create" and not step.type.startswith(AZURE)  # the stack itself and its components
    return (step.op == "create" and kind in _TAKEN_OVER) or (step.op == "update" and kind in _MADE_AGAIN)


def importable(
    todo: Iterable[Step], wanted: Sequence[Entry], id_of: Callable[[str, Mapping[str, Any]], str | None]
) -> Round:
    """Return the next round: every Azure resource to be created whose id can be named, and the components above.

    `wanted` are the resources of Pulumi's import file; `id_of` is given a type and its inputs.
    """
    ids: dict[tuple[str, str], tuple[str, str]] = {}
    for step in todo:
        if step.op == "create" and step.type.startswith(AZURE):
            resource_id = id_of(step.type, step.inputs)
            if resource_id is not None:
                ids[step.type, step.name] = resource_id, step.urn
    entries: list[Entry] = []
    parents: set[str] = set()
    for entry in wanted:
        found = ids.get((entry["type"], entry.get("logicalName") or entry["name"]))
        if found is not None:
            entries.append({**entry, "id": found[0]})
            parents.update([entry["parent"]] if entry.get("parent") else [])
    above = [entry for entry in wanted if entry.get("component") and entry["name"] in parents]
    return Round([*above, *entries], {urn: resource_id for resource_id, urn in ids.values()})


def arm_id(template: str, inputs: Mapping[str, Any], subscription: str) -> str | None:
    """Return the ARM id that `template` (`/resourceGroups/{resourceGroupName}/…`) becomes, None while it is unknown.

    A template that begins with an input hangs on that input's whole id, any other below the subscription.
    """
    named = re.findall(r"{(\w+)}", template)
    values = {name: inputs.get(name) for name in named}
    if any(not isinstance(value, str) or UNKNOWN in value for value in values.values()):
        return None
    filled = template.format_map({name: str(value).strip("/") for name, value in values.items()})
    return filled if template.startswith("/{") else f"/subscriptions/{subscription}{filled}"


def missing(errors: Iterable[str], ids: Mapping[str, str]) -> frozenset[str]:
    """Return those of the URNs in `ids` whose id or URN an import's errors tell."""
    words = {word.strip("'\":;,.()").lower() for error in errors for word in error.split()}
    return frozenset(urn for urn, resource_id in ids.items() if {urn.lower(), resource_id.lower()} & words)


def targets(chosen: Sequence[Step]) -> Iterator[str]:
    """Yield the options that keep an `up` to these steps."""
    for step in chosen:
        yield from ("--target", step.urn)


def _step(document: Mapping[str, Any]) -> Step:
    urn = str(document["urn"])
    state = document.get("newState") or document.get("oldState") or {}
    return Step(document["op"], urn, str(state.get("type") or ""), _name(urn), state.get("inputs") or {})


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]
