"""Text from a server or its agent, made fit for a terminal: it may not move the cursor, retitle the window or hide."""

from __future__ import annotations


def plain(text: str) -> str:
    """Return `text` with everything that cannot be seen replaced by a visible mark; line ends stay."""
    text = text.expandtabs(4)
    return "".join(character if character.isprintable() or character == "\n" else "�" for character in text)
