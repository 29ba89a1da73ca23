"""`dr validate`: check a declaration and report all errors at once."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from dr.errors import DeclarationInvalid
from dr.model import Declaration
from dr.schema import Concern, Examined, Finding, inspect


@click.command()
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (docs/formats/validate.schema.json).")
def validate(folder: Path | None, *, as_json: bool) -> None:
    """Check the declaration in DIR and report all errors at once.

    DIR is a folder of *.yaml files; without it, the one that LIFEBOAT_PLANS names, else plans/ of the checkout.
    Nothing is changed and nothing is asked of Azure or of any server.

    Each error is one line on stdout, FILE:LINE:COLUMN: WHAT, with what was probably meant. A declaration without
    errors may still raise concerns, each with its name and remedy: a key that is not acted upon yet, a server that
    is in no plan. Every key is explained in docs/declaration.md; plans/schema.json lets editors complete and check
    while you type.

    Exit codes: 0 the declaration is well (with or without concerns), 2 wrong usage, 3 it has errors.

    \b
    Examples:
      dr validate
      dr validate ../estate/plans
      dr validate --json | jq -r '.findings[].message'
    """
    chosen = _shown(folder if folder is not None else default_folder())
    examined = inspect(chosen)
    if as_json:
        click.echo(json.dumps(_report(chosen, examined), ensure_ascii=False))
    elif examined.declaration is not None:
        for concern in examined.concerns:
            click.echo(str(concern))
        concerns = f", {_number(len(examined.concerns), 'concern')}" if examined.concerns else ""
        click.echo(f"{chosen}: {_sentence(_counts(examined.declaration))}, no errors{concerns}")
    else:
        for finding in examined.findings:
            click.echo(str(finding))
        click.echo(f"dr: {_errors(examined)} in {chosen}\n    remedy: {DeclarationInvalid.remedy}", err=True)
    if examined.declaration is None:
        sys.exit(DeclarationInvalid.exit_code)


def default_folder() -> Path:
    """Return the declaration's folder when none is named: `LIFEBOAT_PLANS`, or `plans/` of the checkout."""
    return Path(os.environ.get("LIFEBOAT_PLANS") or Path(__file__).parents[2] / "plans")


def _shown(folder: Path) -> Path:
    """Return the folder as short as it can be written from here, so that terminals can open `FILE:LINE`."""
    here = Path.cwd()
    return folder.relative_to(here) if folder.is_absolute() and folder.is_relative_to(here) else folder


def _counts(declaration: Declaration) -> dict[str, int]:
    return {
        "sites": 1,
        "replication_policies": len(declaration.policies),
        "servers": len(declaration.servers),
        "disks": sum(len(server.disks) for server in declaration.servers.values()),
        "recovery_plans": len(declaration.plans),
    }


def _sentence(counts: dict[str, int]) -> str:
    singular = {
        "sites": "site",
        "replication_policies": "replication policy",
        "servers": "server",
        "disks": "disk",
        "recovery_plans": "recovery plan",
    }
    parts = (f"{n} {singular[key] if n == 1 else key.replace('_', ' ')}" for key, n in counts.items())
    return ", ".join(parts)


def _errors(examined: Examined) -> str:
    return _number(len(examined.findings), "error")


def _number(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _report(folder: Path, examined: Examined) -> dict[str, Any]:
    """Return the object that `--json` prints; with errors it carries the error body of every other command too."""
    report: dict[str, Any] = {
        "folder": str(folder),
        "valid": examined.declaration is not None,
        "counts": _counts(examined.declaration) if examined.declaration is not None else None,
        "findings": [_finding(finding) for finding in examined.findings],
        "concerns": [_concern(concern) for concern in examined.concerns],
    }
    if examined.declaration is None:
        report |= DeclarationInvalid(f"{_errors(examined)} in {folder}").as_dict()
    return report


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "file": finding.file,
        "line": finding.line,
        "column": finding.column,
        "message": finding.message,
        "suggestion": finding.suggestion,
    }


def _concern(concern: Concern) -> dict[str, Any]:
    found = concern.finding
    return {
        "code": concern.code,
        "file": found.file,
        "line": found.line,
        "column": found.column,
        "message": found.message,
        "remedy": concern.remedy,
    }
