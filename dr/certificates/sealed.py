"""Seal small secrets under a passphrase, so that the store may hold them and only the break-glass secret opens them.

Layout of a sealed secret, version 1 (big-endian as in the scrypt and AES-GCM test vectors; no field repeats):

    offset  bytes  what
    0       4      b"LBS1"
    4       1      log2 of scrypt's N (cost); r = 8, p = 1 (RFC 7914)
    5       16     salt
    21      12     nonce
    33      n+16   AES-256-GCM ciphertext and tag; the 33 bytes before it are authenticated too
"""

from __future__ import annotations

import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from dr.errors import Corrupt, Refused

MAGIC = b"LBS1"
HEADER_BYTES = 33
COST_LOG2 = 15  # 32 MiB and about 0.1 s: enough for a passphrase of 128 bits, bearable at each start
MAX_COST_LOG2 = 20  # a hostile file must not ask for more than 1 GiB


def seal(data: bytes, passphrase: str) -> bytes:
    """Return `data` encrypted under `passphrase`."""
    header = MAGIC + bytes([COST_LOG2]) + secrets.token_bytes(16) + secrets.token_bytes(12)
    return header + AESGCM(_key(passphrase, header)).encrypt(header[21:33], data, header)


def unseal(blob: bytes, passphrase: str) -> bytes:
    """Return what was sealed. `Corrupt` when it is no sealed secret, `Refused` when the passphrase is wrong."""
    if len(blob) < HEADER_BYTES + 16 or blob[:4] != MAGIC or not 10 <= blob[4] <= MAX_COST_LOG2:
        raise Corrupt("this is not a sealed secret of version 1", code="sealed-invalid")
    header = blob[:HEADER_BYTES]
    try:
        return AESGCM(_key(passphrase, header)).decrypt(header[21:33], blob[HEADER_BYTES:], header)
    except InvalidTag:
        raise Refused(
            "the break-glass passphrase does not open this secret",
            code="passphrase-wrong",
            remedy="check PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE; nothing was changed",
        ) from None


def _key(passphrase: str, header: bytes) -> bytes:
    return Scrypt(salt=header[5:21], length=32, n=1 << header[4], r=8, p=1).derive(passphrase.encode())
