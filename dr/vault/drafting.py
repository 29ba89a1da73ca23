"""From what the agent says about a cut to a manifest that only lacks its snapshots. Pure.

The cut comes from the server: nothing in it is taken for granted, and a cut that can't become a manifest is refused
before a snapshot is taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dr.compile import names
from dr.errors import Conflict, Refused
from dr.vault import manifest as manifests
from dr.vault.manifest import DiskPoint, Manifest, NotFrozen, Warned


@dataclass(frozen=True, slots=True)
class Origin:
    """Who cuts."""

    server: str
    site: str
    protection_epoch: int
    writer_epoch: int
    facts: Mapping[str, Any]


def draft_manifest(
    origin: Origin, cut: Mapping[str, Any], *, sequence: int, now: datetime, disks: Sequence[DiskPoint]
) -> Manifest:
    """Return the manifest of `cut`. `Refused` `cut-invalid` for what the agent may not say."""
    try:
        number = int(cut["number"])
        draft = Manifest(
            id=names.point_id(origin.server, origin.protection_epoch, number),
            server=origin.server,
            site=origin.site,
            protection_epoch=origin.protection_epoch,
            number=number,
            kind=str(cut["kind"]),
            cut_time=manifests.whole_milliseconds(manifests.parse_time(cut["cut_time"])),
            created_time=manifests.whole_milliseconds(now),
            sequence=sequence,
            writer_epoch=origin.writer_epoch,
            frozen=tuple(map(str, cut.get("frozen", ()))),
            not_frozen=tuple(NotFrozen(str(i["name"]), str(i["reason"])) for i in cut.get("not_frozen", ())),
            freeze_ms=float(cut.get("freeze_ms", 0)),
            firmware=str(cut.get("firmware") or origin.facts.get("firmware") or "unknown"),
            facts={**origin.facts, **dict(cut.get("facts") or {})},  # the cut's are newer
            disks=tuple(disks),
            group=manifests.sharing(cut.get("group")),
            applications=tuple(map(str, cut.get("applications") or ())),
            warning=_warned(cut.get("warning")),
        )
    except (KeyError, ValueError, TypeError, OverflowError) as err:  # a time may lie outside of the calendar
        raise Refused(f"{origin.server}: the agent sent a cut without a usable {err}", code="cut-invalid") from err
    problems = manifests.problems(manifests.as_document(draft))
    if problems:
        raise Refused(f"{origin.server}: the agent sent a cut with {'; '.join(problems)}", code="cut-invalid")
    return draft


def _warned(given: Any) -> Warned | None:
    return None if given is None else Warned(str(given["code"]), str(given["message"]), str(given["remedy"]))


def point_exists(blob: str) -> Conflict:
    """Return the error of a number that is taken."""
    return Conflict(f"recovery point {blob} exists already", code="point-exists", remedy="number the next cut higher")
