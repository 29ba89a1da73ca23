"""Names that a person types: one that nobody declared is answered about itself, not about what else is not there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from dr.errors import LifeboatError, NotFound, PrerequisiteMissing, Unreachable


def unknown_server(name: str, known: Iterable[str], remedy: str = "see `dr validate`") -> NotFound:
    """Return the error for a server that is not among the `known` ones."""
    from dr.schema.findings import closest  # noqa: PLC0415 - `dr --help` must not load the schema

    near = closest(name, known)
    hint = f' (did you mean "{near}"?)' if near else ""
    return NotFound(f'no server "{name}" is declared{hint}', code="unknown-server", remedy=remedy)


@contextmanager
def about(name: str) -> Iterator[None]:
    """While inside, tell a failure as one of the server's name when the declaration has no such server.

    A server that left the declaration is known to the site or the vault still: only when those can't be asked, its
    name is all that can be judged.
    """
    try:
        yield
    except (PrerequisiteMissing, Unreachable) as failure:
        known = _declared()
        if not known or name in known:
            raise
        was = f"if it was declared once: {failure.message}" + (f" ({failure.remedy})" if failure.remedy else "")
        raise unknown_server(name, known, f"see `dr validate`; {was}") from failure


def _declared() -> Iterable[str]:
    """Return the declared servers; none when there is no valid declaration, whose errors are another command's."""
    from dr.cli.validate import default_folder  # noqa: PLC0415 - as above
    from dr.schema import load  # noqa: PLC0415 - as above

    try:
        return load(default_folder()).servers
    except LifeboatError:
        return ()
