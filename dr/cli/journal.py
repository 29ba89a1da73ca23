"""`dr journal show`: what an `.hrl` file holds, and whether it is whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from dr.errors import Corrupt
from dr.journal import MAX_SEGMENT_BYTES, Cut, Data, Record, SegmentHeader, read_segment, replay


@click.group()
def journal() -> None:
    """Look into `.hrl` files."""


@journal.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(file: Path, as_json: bool) -> None:
    """Show the records of FILE; exit 9 when it is cut off or damaged."""
    with file.open("rb") as stream:
        data = stream.read(MAX_SEGMENT_BYTES + 1)
    header, records, complete = replay(data)
    damage = None if complete else _damage(data)
    if as_json:
        facts = {"header": _header(header), "records": [_record(each) for each in records], "complete": complete}
        click.echo(json.dumps(facts | (damage.as_dict() if damage else {}), indent=2))
    else:
        click.echo(_title(header))
        for each in records:
            click.echo(_line(each))
        click.echo("whole" if complete else "NOT whole: what is shown is what came before the first fault")
    if damage and as_json:
        raise SystemExit(damage.exit_code)
    if damage:
        raise damage


def _damage(data: bytes) -> Corrupt:
    try:
        read_segment(data)
    except Corrupt as error:
        return error
    raise AssertionError("what does not replay to its end cannot be read")


def _header(header: SegmentHeader | None) -> dict[str, Any] | None:
    if header is None:
        return None
    return {
        "protection_epoch": header.protection_epoch,
        "sequence": header.sequence,
        "disk": header.disk,
        "kind": header.kind.name.lower(),
    }


def _record(record: Record) -> dict[str, Any]:
    if isinstance(record, Cut):
        return {"type": "cut", "info": record.info}
    if isinstance(record, Data):
        return {"type": "data", "offset": record.offset, "length": len(record.payload)}
    return {"type": "zeros", "offset": record.offset, "length": record.length}


def _title(header: SegmentHeader | None) -> str:
    if header is None:
        return "no whole header"
    disk = header.disk or "-"
    place = f"protection epoch {header.protection_epoch}, sequence {header.sequence}"
    return f"{header.kind.name.lower()} segment, {place}, disk {disk}"


def _line(record: Record) -> str:
    if isinstance(record, Cut):
        return f"cut    {json.dumps(record.info, sort_keys=True)}"
    facts = _record(record)
    return f"{facts['type']:6} {facts['offset']:>16} +{facts['length']}"
