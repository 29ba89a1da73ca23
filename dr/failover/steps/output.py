"""What a program wrote, as a record keeps it: bounded, fit for a terminal, without the secrets it was given. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from dr.plain import plain

HEAD_BYTES = 16 << 10
TAIL_BYTES = 48 << 10
# More is held than kept, so that no secret (`dr.target.references.SECRET_LIMIT_BYTES`) is cut in two and so unseen.
SLACK_BYTES = 2 << 10
HIDDEN = "[secret]"
_MASK = b"\0"  # as long as the secret, until all is cut: only then does it get its word
_NO_MASK = bytes.maketrans(b"\0", b"\1")


class Output:
    """Takes bytes without end and keeps the first and the last of them."""

    def __init__(self) -> None:
        self.total_bytes = 0
        self._head = bytearray()
        self._tail = bytearray()

    def feed(self, data: bytes) -> None:
        self.total_bytes += len(data)
        self._head += data[: HEAD_BYTES + SLACK_BYTES - len(self._head)]
        self._tail += data
        # Cutting at each byte would copy the whole tail for each line.
        if len(self._tail) > 2 * (TAIL_BYTES + SLACK_BYTES):
            del self._tail[: -(TAIL_BYTES + SLACK_BYTES)]

    def kept(self, secrets: Iterable[str] = ()) -> tuple[str, int]:
        """Return the text that is kept, and how many bytes were left out of its middle."""
        words = tuple(secrets)
        if self.total_bytes <= HEAD_BYTES + TAIL_BYTES:
            after = self.total_bytes - len(self._head)
            return _text(_masked(bytes(self._head) + bytes(self._tail[len(self._tail) - after :]), words)), 0
        head = _masked(bytes(self._head), words)[:HEAD_BYTES]
        tail = _masked(bytes(self._tail[-(TAIL_BYTES + SLACK_BYTES) :]), words)[-TAIL_BYTES:]
        left_out = self.total_bytes - HEAD_BYTES - TAIL_BYTES
        return f"{_text(head)}\n[{left_out} bytes are left out here]\n{_text(tail)}", left_out


def hidden(text: str, secrets: Iterable[str]) -> str:
    """Return a text without the secrets."""
    for word in secrets:
        text = text.replace(word, HIDDEN) if word else text
    return text


def last_line(text: str) -> str:
    """Return the last line that says something, or an empty text."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def _masked(data: bytes, secrets: Iterable[str]) -> bytes:
    data = data.translate(_NO_MASK)
    for secret in filter(None, secrets):
        word = secret.encode()
        data = data.replace(word, _MASK * len(word))
    return data


def _text(masked: bytes) -> str:
    return plain(re.sub("\0+", HIDDEN, masked.decode("utf-8", "backslashreplace")).replace("\r\n", "\n"))
