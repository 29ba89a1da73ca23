"""Progress on stderr: a bar on a terminal, a line every tenth otherwise."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

STEP_PERCENT = 10  # between two lines where there is no terminal


@contextmanager
def progress(server: str, *, quiet: bool) -> Iterator[Callable[[int, int], None]]:
    """Yield what is called with what is done and the total (bytes), whenever they are known anew."""
    if quiet:
        yield lambda done, total: None
    elif sys.stderr.isatty():
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import Progress  # noqa: PLC0415

        with Progress(console=Console(stderr=True)) as bars:
            bar = bars.add_task(server, total=None)
            yield lambda done, total: bars.update(bar, completed=done, total=total or None)
    else:
        said = -1

        def line(done: int, total: int) -> None:
            nonlocal said
            percent = 100 * done // total if total else 0
            if percent // STEP_PERCENT > said:
                said = percent // STEP_PERCENT
                click.echo(f"{server}: {percent} %", err=True)

        yield line
