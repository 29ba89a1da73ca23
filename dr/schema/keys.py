"""Check a pinned SSH host key: `TYPE BASE64`, as OpenSSH writes public keys (RFC 4253, 6.6). Pure."""

from __future__ import annotations

import base64
import binascii

# Type -> the lengths of the fields behind the type's own name; None where any length is possible.
_FIELDS: dict[str, tuple[int | None, ...]] = {
    "ssh-ed25519": (32,),
    "ssh-rsa": (None, None),
    "ecdsa-sha2-nistp256": (8, 65),
    "ecdsa-sha2-nistp384": (8, 97),
    "ecdsa-sha2-nistp521": (8, 133),
}


def wrong_with_host_key(text: str) -> str | None:
    """Return what is wrong with a host key, as it ends the sentence "hostKey …", or None."""
    if "PRIVATE KEY" in text:
        return (
            "is a private key; take it out of the file, consider it known to others, and write the server's public key"
        )
    if text.startswith(("SHA256:", "MD5:")):
        return "is a fingerprint; write the key itself, as `ssh-keyscan` prints it behind the address"
    words = text.split()
    if len(words) > 1 and words[0] not in _FIELDS and words[1] in _FIELDS:
        return f"begins with the server's address; leave {words[0]} out"
    if len(words) not in (2, 3) or words[0] not in _FIELDS:
        return f"must be the key's type and its base64; types are {', '.join(_FIELDS)}"
    return _wrong_with_blob(words[0], words[1])


def _wrong_with_blob(kind: str, encoded: str) -> str | None:
    try:
        fields = _split(base64.b64decode(encoded, validate=True))
    except (binascii.Error, ValueError):
        return "has a base64 part that is damaged; copy the whole line again"
    if not fields or fields[0] != kind.encode():
        return f"says {kind} but its base64 part is another or a damaged key; copy the whole line again"
    lengths = _FIELDS[kind]
    if len(fields) != len(lengths) + 1 or any(
        length is not None and len(part) != length for length, part in zip(lengths, fields[1:], strict=True)
    ):
        return "is cut short or damaged; copy the whole line again"
    return None


def _split(blob: bytes) -> list[bytes]:
    """Split a blob of length-prefixed fields; an empty list when it does not come out even."""
    fields = []
    while blob:
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + length:
            return []
        fields.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return fields
