"""`docs/agent-install.md` says what the code does: its tables are the code's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dr.push import layout
from dr.push.catalogue import CATALOGUE
from dr.push.exposures import EXPOSURES, SCORE

TEXT = (Path(__file__).parents[2] / "docs" / "agent-install.md").read_text()


def table(head: str) -> list[str]:
    """Return the rows of the table that begins with `head`."""
    rows = TEXT.split(f"\n{head}\n", 1)[1].split("\n\n", 1)[0].splitlines()
    return rows[1:]


def row(*cells: object) -> str:
    return f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in cells)} |"


def compare(head: str, rows: Iterable[str]) -> None:
    assert table(head) == list(rows)


def test_every_path() -> None:
    places = (*layout.FOLDERS, *layout.FILES, layout.TOKEN_FILE, *layout.RUN_TIME)
    compare(row("path", "mode", "what"), (row(f"`{each.path}`", f"{each.mode:04o}", each.purpose) for each in places))


def test_everything_that_can_stand_against_it() -> None:
    rows = (
        row(f"`{code}`", "blocks" if blocks else "concern", meaning, remedy)
        for code, (blocks, meaning, remedy) in CATALOGUE.items()
    )
    compare("| code | | meaning | remedy |", rows)


def test_every_exposure() -> None:
    compare(row("exposure", "why it stays"), (row(f"`{name}`", why) for name, why in EXPOSURES.items()))
    assert f"**{SCORE}**" in TEXT
