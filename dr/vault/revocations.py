"""What is revoked, as the vault keeps it: one blob for each serial number, made and never changed.

    register/revoked/SERIAL.json   {"schema": 1, "serial", "role", "name", "until", "revoked_at", "reason"}
    register/kept.json             {"schema": 1, "site"}: this site keeps its revocations here

Rules:
- The site's servers may make such a blob and can't overwrite or remove one: a thief with their login takes no
  revocation back.
- The blob's name alone revokes: one whose content can't be read counts as much.
- Without `kept.json` nobody knows what was revoked, and a rebuilt site must not guess (`dr.rebuild`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from dr.certificates.register import Revoked
from dr.compile import names
from dr.errors import Conflict, NotFound
from dr.vault.store import BlobStore

SCHEMA = 1
KEPT = "kept.json"
_FOLDER, _END = "revoked/", ".json"
UNREADABLE = "its record in the vault cannot be read"


def keep(store: BlobStore, site: str, revoked: Iterable[Revoked]) -> int:
    """Make sure that all of `revoked` is in the vault; return how many were not there. `Unreachable`, `Refused`."""
    _make(store, KEPT, {"schema": SCHEMA, "site": site})
    there = serials(store)
    missing = [each for each in revoked if each.serial not in there]
    for each in missing:
        document = {
            "schema": SCHEMA,
            "serial": each.serial,
            "role": each.role,
            "name": each.name,
            "until": each.until,
            "revoked_at": each.revoked_at,
            "reason": each.reason,
        }
        _make(store, f"{_FOLDER}{each.serial}{_END}", document)
    return len(missing)


def serials(store: BlobStore) -> frozenset[str]:
    """Return the serial numbers that the vault keeps as revoked. `Unreachable`."""
    found = store.list(names.REGISTER, _FOLDER)
    return frozenset(name.removeprefix(_FOLDER).removesuffix(_END) for name in found)


def kept(store: BlobStore) -> list[Revoked] | None:
    """Return what the vault keeps as revoked; None: no site ever kept it here, so nobody knows. `Unreachable`."""
    try:
        store.get(names.REGISTER, KEPT)
    except NotFound:
        return None
    return [_read(store, serial) for serial in sorted(serials(store))]


def _read(store: BlobStore, serial: str) -> Revoked:
    data, _ = store.get(names.REGISTER, f"{_FOLDER}{serial}{_END}")
    try:
        document = json.loads(data)
        role, name, reason = (str(document[key]) for key in ("role", "name", "reason"))
        return Revoked(serial, role, name, float(document["until"]), float(document["revoked_at"]), reason)
    except (ValueError, KeyError, TypeError):
        return Revoked(serial, "unknown", "", 0.0, 0.0, UNREADABLE)


def _make(store: BlobStore, name: str, document: dict[str, object]) -> None:
    try:
        store.put(names.REGISTER, name, json.dumps(document, sort_keys=True).encode() + b"\n", if_absent=True)
    except Conflict:
        return  # it is there, and what is there counts
