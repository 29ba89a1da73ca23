"""A document that has a known kind and a name, as the checks across documents see it.

What its shape check refused is no longer in `data`, so a check reads with `.get` and leaves out what is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from dr.schema.document import Document, Path
from dr.schema.findings import Finding

Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Thing:
    """One declared thing; `name` is None where it was refused or is missing."""

    kind: str
    name: str | None
    document: Document

    @property
    def data(self) -> Data:
        data: Data = self.document.data
        return data

    def section(self, key: str) -> Data:
        """Return a mapping below the root; empty where there is none."""
        value = self.data.get(key)
        return value if isinstance(value, dict) else {}

    def written(self) -> list[str]:
        """Return the keys of the document that were written, also those whose value was refused."""
        return [str(path[0]) for path in self.document.keys if len(path) == 1]

    def at(self, path: Path) -> Any:
        """Return the value at a path that exists."""
        value: Any = self.document.data
        for step in path:
            value = value[step]
        return value

    def listed_servers(self) -> dict[str, Path]:
        """Return the servers that a recovery plan names and where; for one that it names twice, the first place."""
        listed: dict[str, Path] = {}
        for group_index, group in items(self.data.get("groups")):
            for index, name in names(group.get("servers")):
                listed.setdefault(name, ("groups", group_index, "servers", index))
        return listed

    def finding(self, path: Path, message: str, suggestion: str | None = None, *, remedy: str = "") -> Finding:
        return self.document.finding(path, f"{message}; {remedy}" if remedy else message, suggestion)

    def where(self, path: Path) -> str:
        """Return `file:line` of a value, for messages that point at a second place."""
        return f"{self.document.file}:{self.document.place(path)[0]}"


@dataclass(frozen=True, slots=True)
class Estate:
    """All things of a declaration, by kind, in the order of the files.

    `names` holds for each kind every name that was written, refused ones too. A name of a kind in `unsure` may have
    been declared though it is not found: something could not be read, or has no name.
    """

    things: tuple[Thing, ...]
    names: Mapping[str, frozenset[str]]
    unsure: frozenset[str]

    def of(self, kind: str) -> Iterator[Thing]:
        return (thing for thing in self.things if thing.kind == kind)

    def known(self, kind: str, name: str) -> bool:
        return name in self.names[kind] or kind in self.unsure

    def find(self, kind: str, name: str) -> Thing | None:
        return next((thing for thing in self.of(kind) if thing.name == name), None)


def items(value: object) -> Iterator[tuple[int, Data]]:
    """Yield the mappings of a list with their indexes; nothing where there is no list."""
    if isinstance(value, list):
        yield from ((index, item) for index, item in enumerate(value) if isinstance(item, dict))


def names(value: object) -> Iterator[tuple[int, str]]:
    """Yield the texts of a list with their indexes; nothing where there is no list."""
    if isinstance(value, list):
        yield from ((index, item) for index, item in enumerate(value) if isinstance(item, str))
