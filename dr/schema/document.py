"""From the bytes of one YAML file to documents: plain data with the place of every key and value. Pure.

Rules kept here:
- A file is read with PyYAML's event stream, one pass, no recursion. What could blow up or surprise (anchors and
  aliases, merge keys, tags, deep nesting, huge files) is refused by name, so no bomb is ever expanded.
- A syntax error ends its file at that place; what stood before it in whole documents is kept.
- Scalars mean what `dr.schema.scalars` says. A value that was refused here is in `Document.bad`, and nobody
  complains about it again.

Not done here: which kinds and keys there are (`dr.schema.shape`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from dr.schema.findings import Finding, quoted
from dr.schema.scalars import Ambiguous, resolve
from dr.schema.secret import WRITTEN_HERE, is_secret

MAX_FILE_BYTES = 1 << 20
MAX_DEPTH = 20

_REPEATED = "\0"  # marks the path of a key that was given before

Path = tuple[str | int, ...]  # keys and indexes from the document's root
Place = tuple[int, int]  # line and column, from 1


@dataclass(slots=True)
class Document:
    """One YAML document; `data` is what it holds, `values` and `keys` say where each path stands."""

    file: str
    data: Any = None
    values: dict[Path, Place] = field(default_factory=dict)
    keys: dict[Path, Place] = field(default_factory=dict)
    bad: set[Path] = field(default_factory=set)

    def place(self, path: Path) -> Place:
        """Return where the value at `path` stands, or the nearest thing above it that was written."""
        while path and path not in self.values:
            path = path[:-1]
        return self.values.get(path, (1, 1))

    def key_place(self, path: Path) -> Place:
        return self.keys.get(path) or self.place(path)

    def finding(self, path: Path, message: str, suggestion: str | None = None, *, at_key: bool = False) -> Finding:
        """Return a finding about the value at `path` (or about its key)."""
        line, column = self.key_place(path) if at_key else self.place(path)
        return Finding(self.file, line, column, message, suggestion)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What one file holds. `whole` is False when a part of it could not be read."""

    documents: tuple[Document, ...]
    findings: tuple[Finding, ...]
    whole: bool


def parse(file: str, content: bytes) -> Parsed:
    """Return the documents of one file and what is wrong with its YAML."""
    if len(content) > MAX_FILE_BYTES:
        message = f"the file is too large; a declaration's file has at most {MAX_FILE_BYTES} bytes"
        return Parsed((), (Finding(file, 1, 1, message),), False)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8-sig")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        message = f"byte 0x{content[error.start]:02x} is not UTF-8; save the file as UTF-8"
        return Parsed((), (Finding(file, line, column, message),), False)
    reader = _Reader(file)
    try:
        for event in _events(text):
            reader.take(event)
    except yaml.YAMLError as error:
        reader.findings.append(_syntax_error(file, text, error))
    except _StopReading as stop:
        reader.findings.append(Finding(file, *stop.place, stop.message))
    else:
        return Parsed(tuple(reader.documents), tuple(reader.findings), True)
    return Parsed(tuple(reader.documents), tuple(reader.findings), False)


class _StopReading(Exception):
    """The rest of the file can't be understood."""

    def __init__(self, place: Place, message: str) -> None:
        super().__init__(message)
        self.place = place
        self.message = message


@dataclass(slots=True)
class _Open:
    """A mapping or list that is being read; `key` is the mapping's key whose value comes next."""

    path: Path
    content: dict[str, Any] | list[Any]
    key: str | None = None


class _Reader:
    """Build documents out of events."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.documents: list[Document] = []
        self.findings: list[Finding] = []
        self._document = Document(file)
        self._open: list[_Open] = []

    def take(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.DocumentStartEvent):
            self._document = Document(self.file)
        elif isinstance(event, yaml.DocumentEndEvent):
            if self._document.data is not None:
                self.documents.append(self._document)
        elif isinstance(event, yaml.AliasEvent):
            raise _StopReading(_start(event), f"alias *{event.anchor}: write the value out; aliases are not used here")
        elif isinstance(event, yaml.NodeEvent):
            self._refuse_decoration(event)
            self._node(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop()

    def _refuse_decoration(self, event: yaml.NodeEvent) -> None:
        if event.anchor is not None:
            message = f"anchor &{event.anchor}: write the value out where it is needed; anchors are not used here"
            raise _StopReading(_start(event), message)
        tag = getattr(event, "tag", None)
        if tag is not None:
            short = "!!" + tag.removeprefix("tag:yaml.org,2002:") if tag.startswith("tag:yaml.org,2002:") else tag
            raise _StopReading(_start(event), f"tag {short}: tags are not used here; write the plain value")

    def _node(self, event: yaml.NodeEvent) -> None:
        top = self._open[-1] if self._open else None
        if top is not None and isinstance(top.content, dict) and top.key is None:
            self._key(event, top)
            return
        path = self._next_path(top)
        self._document.values[path] = _start(event)
        value = self._value(event, path)
        if top is None:
            self._document.data = value
        elif isinstance(top.content, dict):
            assert top.key is not None
            if not top.key.startswith(_REPEATED):
                top.content[top.key] = value
            top.key = None
        else:
            top.content.append(value)

    def _next_path(self, top: _Open | None) -> Path:
        if top is None:
            return ()
        if isinstance(top.content, dict):
            assert top.key is not None
            return (*top.path, top.key)
        return (*top.path, len(top.content))

    def _key(self, event: yaml.NodeEvent, top: _Open) -> None:
        if not isinstance(event, yaml.ScalarEvent):
            raise _StopReading(_start(event), "a key must be a word; found a mapping or a list")
        assert isinstance(top.content, dict)
        key, place = event.value, _start(event)
        if key == "<<" and event.style is None:
            raise _StopReading(_start(event), "merge key <<: write the values out; merging is not used here")
        meaning = resolve(key) if event.style is None else key
        if isinstance(meaning, Ambiguous):
            self.findings.append(Finding(self.file, *place, f"key {meaning.reason}"))
        if key in top.content:
            line, column = self._document.keys[(*top.path, key)]
            message = f"{quoted(key)} is given twice (first at line {line}, column {column}); take one out"
            self.findings.append(Finding(self.file, *place, message))
            # The first one counts; the second is read for its own errors and dropped.
            key = _REPEATED + key
        top.key = key
        self._document.keys[(*top.path, key)] = place

    def _value(self, event: yaml.NodeEvent, path: Path) -> Any:
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if len(self._open) >= MAX_DEPTH:
            raise _StopReading(
                _start(event),
                f"nested deeper than {MAX_DEPTH} levels, which no declaration needs; check the indentation",
            )
        content: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._open.append(_Open(path, content))
        return content

    def _scalar(self, event: yaml.ScalarEvent, path: Path) -> Any:
        if event.style is not None:
            return event.value
        meaning = resolve(event.value)
        if isinstance(meaning, Ambiguous):
            reason = f"a plain value that YAML readers read differently; {WRITTEN_HERE}" if is_secret(path) else ""
            self.findings.append(Finding(self.file, *_start(event), reason or meaning.reason))
            self._document.bad.add(path)
            return event.value
        return meaning


# What PyYAML says -> what helps.
_HINTS = (
    ("mapping values are not allowed", "put a value that holds a colon in quotes, and check the indentation"),
    ("unexpected end of stream", "close the quote"),
    ("expected ',' or", "close the bracket"),
    ("could not find expected ':'", "a key is followed by a colon and a space"),
    ("expected <block end>", "check the indentation"),
    ("that cannot start any token", "put the value in quotes"),
)


def _events(text: str) -> Iterator[yaml.Event]:
    # The pure loader, not libyaml's: its messages and columns are the same on every machine.
    yield from yaml.parse(text, Loader=yaml.SafeLoader)


def _start(event: yaml.Event) -> Place:
    mark = event.start_mark
    assert mark is not None  # only events that are made by hand have none
    return mark.line + 1, mark.column + 1


def _syntax_error(file: str, text: str, error: yaml.YAMLError) -> Finding:
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        return Finding(
            file, line, column, f"character U+{ord(text[error.position]):04X} is not allowed in YAML; take it out"
        )
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    lines = text.split("\n")
    written = lines[line - 1] if line <= len(lines) else ""
    indentation = written[: len(written) - len(written.lstrip(" \t"))]
    if "\t" in indentation:
        return Finding(file, line, indentation.index("\t") + 1, "a tab can't indent YAML; use spaces")
    problem = getattr(error, "problem", None) or "can't be read"
    context, begun = getattr(error, "context", None), getattr(error, "context_mark", None)
    message = f"YAML: {problem}" + (f" {context}" if context else "")
    if begun is not None and (begun.line + 1, begun.column + 1) != (line, column):
        message += f" that begins at line {begun.line + 1}, column {begun.column + 1}"
    hint = next((hint for said, hint in _HINTS if said in problem), "look for what is missing above this line")
    message += f"; {hint}"
    return Finding(file, line, column, message)
