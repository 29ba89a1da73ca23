"""Checks of a server's applications: names, and keys that only one of the two ways has. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from dr.schema.document import Path
from dr.schema.findings import Finding, quoted
from dr.schema.thing import Data, Estate, Thing, items


def check_applications(estate: Estate) -> Iterator[Finding]:
    """Yield what is wrong with applications beyond their shape."""
    for server in estate.of("Server"):
        seen: dict[str, Path] = {}
        for index, application in items(server.data.get("applications")):
            path: Path = ("applications", index)
            name = application.get("name")
            if name in seen:
                place = server.where((*seen[name], "name"))
                message = f"application {quoted(name)} is declared twice (first at {place}); give one another name"
                yield server.finding((*path, "name"), message)
            elif isinstance(name, str):
                seen[name] = path
            yield from _check_way(server, path, application)


def _check_way(server: Thing, path: Path, application: Data) -> Iterator[Finding]:
    if "use" in application and "pre" not in application:
        if "post" in application:
            yield server.finding((*path, "post"), "post is for scripts; a drop-in has its own, leave it out")
        return
    if "pre" not in application:
        return  # neither is there, which is reported
    if "settings" in application:
        yield server.finding((*path, "settings"), "settings are for a drop-in; scripts have their own, leave them out")
    if "post" not in application and not server.document.bad:
        yield server.finding(path, 'an application with pre lacks the key "post", which undoes what pre did')
    for key in ("pre", "post"):
        words = application.get(key)
        if isinstance(words, list) and words and isinstance(words[0], str) and not words[0].startswith("/"):
            message = f"the program of {key} must be an absolute path on the server; found {quoted(words[0])}"
            yield server.finding((*path, key, 0), message)
