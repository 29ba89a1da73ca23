"""What changed between two sets of inputs, in the detail that `pulumi preview` needs to show old and new values.

Pure. A key is a path as the engine writes it: `tags.point`, `securityRules[0].access`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from pulumi.provider.experimental.provider import DiffResponse, PropertyDiff, PropertyDiffKind

_REPLACING = {
    PropertyDiffKind.ADD: PropertyDiffKind.ADD_REPLACE,
    PropertyDiffKind.DELETE: PropertyDiffKind.DELETE_REPLACE,
    PropertyDiffKind.UPDATE: PropertyDiffKind.UPDATE_REPLACE,
}


def changes(old: Any, new: Any, path: str = "") -> Iterator[tuple[str, PropertyDiffKind]]:
    """Yield (path, kind) of each leaf that differs between two plain values."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted(old.keys() | new.keys()):
            below = f"{path}.{key}" if path else key
            if key not in old:
                yield below, PropertyDiffKind.ADD
            elif key not in new:
                yield below, PropertyDiffKind.DELETE
            else:
                yield from changes(old[key], new[key], below)
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            below = f"{path}[{index}]"
            if index >= len(old):
                yield below, PropertyDiffKind.ADD
            elif index >= len(new):
                yield below, PropertyDiffKind.DELETE
            else:
                yield from changes(old[index], new[index], below)
    elif old != new:
        yield path, PropertyDiffKind.UPDATE


def difference(
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    *,
    replacing: Collection[str] | Callable[[str], bool] = (),
    ignore: Collection[str] = (),
    delete_before_replace: bool = False,
) -> DiffResponse:
    """Compare old and new inputs (plain values, secrets opened; `__` keys are the engine's and skipped).

    `replacing` names the paths (or tells by a function of the path) whose change replaces the resource; a path
    stands for all below it. `ignore` holds the paths of `ignore_changes`. The answer never leaves `changes` open.
    """
    detailed: dict[str, PropertyDiff] = {}
    replaces: list[str] = []
    for path, kind in changes(old, new):
        if path.startswith("__") or _covered(path, ignore):
            continue
        replaced = replacing(path) if callable(replacing) else _covered(path, replacing)
        detailed[path] = PropertyDiff(_REPLACING[kind] if replaced else kind, input_diff=True)
        if replaced:
            replaces.append(path)
    return DiffResponse(
        changes=bool(detailed),
        replaces=replaces,
        diffs=sorted({path.split(".")[0].split("[")[0] for path in detailed}),
        detailed_diff=detailed,
        delete_before_replace=delete_before_replace and bool(replaces),
    )


def _covered(path: str, prefixes: Collection[str]) -> bool:
    return any(path == prefix or path.startswith((f"{prefix}.", f"{prefix}[")) for prefix in prefixes)
