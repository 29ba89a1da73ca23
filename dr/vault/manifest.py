"""The manifest of a recovery point: a JSON blob that is written last; a point exists when its manifest does. Pure.

The schema is published in `docs/formats/recovery-point.schema.json` and checked on writing and on reading.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from dr.compile import names
from dr.errors import Corrupt

SCHEMA = 1
CRASH_CONSISTENT = "crash-consistent"
APP_CONSISTENT = "application-consistent"
_SCHEMA_FILE = Path(__file__).parents[2] / "docs/formats/recovery-point.schema.json"


@dataclass(frozen=True, slots=True)
class NotFrozen:
    """Something that writes to a replicated disk and was not frozen during the cut."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Warned:
    """Why a point is not what it was meant to be, in the words of the agent that cut it."""

    code: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class DiskPoint:
    """One disk of a point: its snapshots, and the Merkle root over its digest table."""

    name: str
    size_bytes: int
    blob: str
    snapshot: str
    digests_blob: str
    digests_snapshot: str
    merkle_root: str


@dataclass(frozen=True, slots=True)
class Sharing:
    """The point of a replication group that a server's point is a part of; what it is worth `dr.vault.shared` tells."""

    name: str
    id: str
    members: tuple[str, ...]
    time: datetime  # of the coordinator's clock; a label that all parts bear alike


@dataclass(frozen=True, slots=True)
class Manifest:
    """A recovery point; `(protection_epoch, number)` is its place in order, the times are labels.

    `applications` are those that were asked to write everything down for it; `warning` says why a point that was meant
    to be application-consistent is not.
    """

    id: str
    server: str
    site: str
    protection_epoch: int
    number: int
    kind: str
    cut_time: datetime
    created_time: datetime
    sequence: int
    writer_epoch: int
    frozen: tuple[str, ...]
    not_frozen: tuple[NotFrozen, ...]
    freeze_ms: float
    firmware: str
    facts: Mapping[str, Any]
    disks: tuple[DiskPoint, ...]
    group: Sharing | None = None
    applications: tuple[str, ...] = ()
    warning: Warned | None = None

    @property
    def app_consistent(self) -> bool:
        """Whether its applications had written everything down."""
        return self.kind == APP_CONSISTENT

    @property
    def order(self) -> tuple[int, int]:
        """The place in the order of points."""
        return self.protection_epoch, self.number

    @property
    def blob(self) -> str:
        """The manifest's own name in container `manifests`."""
        return names.manifest_blob(self.server, self.protection_epoch, self.number)


def as_document(manifest: Manifest) -> dict[str, Any]:
    """Return the manifest as the JSON object that its schema describes."""
    facts = dict(manifest.facts)
    document = asdict(manifest)
    document |= {
        "schema": SCHEMA,
        "cut_time": format_time(manifest.cut_time),
        "created_time": format_time(manifest.created_time),
        "frozen": list(manifest.frozen),
        "not_frozen": [asdict(item) for item in manifest.not_frozen],
        "facts": facts,
        "disks": [asdict(disk) for disk in manifest.disks],
        "group": sharing_document(manifest.group),
        "applications": list(manifest.applications),
    }
    return document


def sharing_document(group: Sharing | None) -> dict[str, Any] | None:
    """Return what a manifest says of the group."""
    if group is None:
        return None
    return {
        "name": group.name,
        "id": group.id,
        "members": list(group.members),
        "time": format_time(group.time),
    }


def to_bytes(manifest: Manifest) -> bytes:
    """Return the blob's content, always the same for the same manifest. `Corrupt` when it breaks the schema."""
    document = as_document(manifest)
    _validate(document, manifest.blob)
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


def from_bytes(data: bytes, name: str) -> Manifest:
    """Read the manifest blob called `name`. `Corrupt` `manifest-invalid` with what is wrong."""
    try:
        document = json.loads(data)
    except ValueError as err:
        raise Corrupt(f"manifest {name} is not JSON: {err}", code="manifest-invalid") from err
    _validate(document, name)
    values = {key: document[key] for key in document if key != "schema"}
    values |= {
        "cut_time": parse_time(document["cut_time"]),
        "created_time": parse_time(document["created_time"]),
        "frozen": tuple(document["frozen"]),
        "not_frozen": tuple(NotFrozen(**item) for item in document["not_frozen"]),
        "disks": tuple(DiskPoint(**disk) for disk in document["disks"]),
        "group": sharing(document.get("group")),
        "applications": tuple(document.get("applications", ())),
        "warning": Warned(**document["warning"]) if document.get("warning") else None,
    }
    manifest = Manifest(**values)
    expected = names.point_id(manifest.server, *manifest.order)
    if manifest.blob != name or manifest.id != expected:
        raise Corrupt(f"manifest {name} says that it is {manifest.id} ({manifest.blob})", code="manifest-invalid")
    return manifest


def sharing(document: Mapping[str, Any] | None) -> Sharing | None:
    """Read what `sharing_document` returned; raises what a missing or wrong value raises."""
    if document is None:
        return None
    members = tuple(str(member) for member in document["members"])
    return Sharing(str(document["name"]), str(document["id"]), members, parse_time(document["time"]))


def format_time(moment: datetime) -> str:
    """Return RFC 3339 in UTC with milliseconds."""
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    # Python writes UTC as +00:00; Z is what people type back as a selector.
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def whole_milliseconds(moment: datetime) -> datetime:
    """Return the moment as a manifest keeps it, so that a time that was shown selects the point it belongs to."""
    return parse_time(format_time(moment))


def parse_time(text: str) -> datetime:
    """Read RFC 3339; `ValueError` when it is none or has no zone."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment


def problems(document: Any) -> list[str]:
    """Return how a JSON document breaks the schema; an empty list when it does not."""
    errors = sorted(_validator().iter_errors(document), key=lambda error: list(map(str, error.path)))
    found = [f"{'/'.join(map(str, error.path)) or 'document'}: {error.message}" for error in errors]
    if found:
        return found
    group = document.get("group")
    times = {field: document[field] for field in ("cut_time", "created_time")}
    for field, text in {**times, **({"group/time": group["time"]} if group else {})}.items():
        try:
            parse_time(text)
        except ValueError as err:
            found.append(f"{field}: {err}")
    if group is not None and document["server"] not in group["members"]:
        found.append(f"group: {document['server']} is none of its members")
    return found


def _validate(document: Any, name: str) -> None:
    found = problems(document)
    if found:
        raise Corrupt(f"manifest {name} breaks its schema: {'; '.join(found)}", code="manifest-invalid")


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(json.loads(_SCHEMA_FILE.read_text()))
