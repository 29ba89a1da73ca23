"""Compare disks and pages, with nothing of Lifeboat between the bytes and the hash."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path

BLOCK = 4 << 20
ANSWER_SECONDS = 120  # an emulated machine reads its whole database, beside others that start


def disk_digest(path: Path, size_bytes: int) -> str:
    """Return the SHA-256 of the first `size_bytes` of a raw image; a shorter file counts as followed by zeros."""
    digest = hashlib.sha256()
    left = size_bytes
    with path.open("rb") as file:
        while left and (block := file.read(min(BLOCK, left))):
            digest.update(block)
            left -= len(block)
    while left:
        digest.update(bytes(min(BLOCK, left)))
        left -= min(BLOCK, left)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class ShopState:
    """What the shop says of its database: `chain` is a hash over all orders in turn."""

    orders: int
    chain: str
    integrity: str


def shop_state(host: str, port: int, *, upto: int | None = None) -> ShopState:
    """Ask a running shop for its state, or for its state when it had `upto` orders."""
    query = "" if upto is None else f"?upto={upto}"
    answer = json.loads(_get(f"http://{host}:{port}/state{query}"))
    return ShopState(int(answer["orders"]), str(answer["chain"]), str(answer["integrity"]))


def shop_page(host: str, port: int) -> str:
    """Return the shop's page as a browser would get it."""
    return _get(f"http://{host}:{port}/").decode()


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 - the URL is built above, always http
        body: bytes = answer.read()
    return body
