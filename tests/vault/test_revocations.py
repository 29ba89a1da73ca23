"""What is revoked, kept in the vault: never overwritten, never forgotten, believed by name alone."""

from __future__ import annotations

import pytest

from dr.certificates.register import Revoked
from dr.compile import names
from dr.errors import Conflict
from dr.vault import revocations
from dr.vault.memory import MemoryBlobStore

ONE = Revoked("ab12", "agent", "shop1", 2.0, 1.0, "stolen")
TWO = Revoked("cd34", "issuing", "hq", 9.0, 3.5, "the folder was copied")


def test_what_was_kept_is_read_back_and_kept_once() -> None:
    store = MemoryBlobStore()
    assert revocations.kept(store) is None, "nobody ever kept anything: unknown, not empty"
    assert revocations.keep(store, "hq", []) == 0
    assert revocations.kept(store) == []
    assert revocations.keep(store, "hq", [ONE, TWO]) == 2
    assert revocations.keep(store, "hq", [ONE, TWO]) == 0
    assert revocations.kept(store) == [ONE, TWO]


def test_a_record_that_cannot_be_read_revokes_all_the_same() -> None:
    store = MemoryBlobStore()
    revocations.keep(store, "hq", [])
    store.put(names.REGISTER, "revoked/ab12.json", b'{"schema": 1}')
    (found,) = revocations.kept(store) or []
    assert (found.serial, found.reason) == ("ab12", revocations.UNREADABLE)


def test_what_is_there_is_not_overwritten() -> None:
    store = MemoryBlobStore()
    revocations.keep(store, "hq", [ONE])
    revocations.keep(store, "hq", [Revoked("ab12", "agent", "other", 0.0, 0.0, "forged")])
    assert revocations.kept(store) == [ONE]
    with pytest.raises(Conflict):
        store.put(names.REGISTER, "revoked/ab12.json", b"{}", if_absent=True)
