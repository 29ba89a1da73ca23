"""Which keys of a declaration lead to a secret: nothing that stands below them is ever repeated in a message.

People do write the password itself where its place is wanted, also under a key of the wrong document, so this goes by
the key's name and not by the shape.
"""

from __future__ import annotations

KEYS = frozenset({"password", "sudoPassword", "sharedKey", "authorization", "webhook", "url", "urlFrom"})

WRITTEN_HERE = "if a secret was written here, take it out of the file and consider it known to others"


def is_secret(path: tuple[str | int, ...]) -> bool:
    """Return whether the value at `path` may be a secret that was written by mistake."""
    return not KEYS.isdisjoint(path)
