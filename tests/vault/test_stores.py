"""The contract over both stores, and how the one on Azure Storage behaves when its service stops."""

from __future__ import annotations

import base64
import os
import signal
import time
from collections.abc import Iterator

import pytest

from dr.errors import Refused, Unreachable
from dr.vault.azure import AzureBlobStore
from dr.vault.memory import MemoryBlobStore
from dr.vault.store import BlobStore
from tests.vault.azurite import Azurite, running_azurite
from tests.vault.contract import BlobStoreContract


class TestMemory(BlobStoreContract):
    @pytest.fixture
    def store(self) -> BlobStore:
        return MemoryBlobStore()


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with running_azurite(tmp_path_factory.mktemp("azurite")) as running:
        yield running


@pytest.mark.real
class TestAzurite(BlobStoreContract):
    @pytest.fixture
    def store(self, azurite: Azurite) -> Iterator[BlobStore]:
        store = azurite.open()
        yield store
        store.close()


@pytest.mark.real
def test_a_store_that_is_not_there_is_unreachable_within_seconds(azurite: Azurite) -> None:
    store = AzureBlobStore(f"http://127.0.0.1:{azurite.unused_port}/{azurite.account}", azurite.credential)
    for call in (lambda: store.put("runs", "x", b""), lambda: store.get("runs", "x")):
        start = time.monotonic()
        with pytest.raises(Unreachable) as error:
            call()
        assert error.value.code == "store-unavailable"
        assert time.monotonic() - start < 10
    store.close()


@pytest.mark.real
def test_a_wrong_key_is_refused_and_not_taken_for_an_outage(azurite: Azurite) -> None:
    wrong = base64.b64encode(b"x" * 48).decode()
    store = AzureBlobStore(azurite.url, {"account_name": azurite.account, "account_key": wrong})
    with pytest.raises(Refused) as error:
        store.put("runs", "x", b"")
    assert wrong not in error.value.message
    store.close()


@pytest.mark.real
def test_a_frozen_store_is_read_when_it_wakes(azurite: Azurite) -> None:
    store = azurite.open()
    store.put("runs", "kept", b"1")
    os.kill(azurite.pid, signal.SIGSTOP)
    try:
        reader = azurite.open(answer_seconds=1)
        with pytest.raises(Unreachable):
            reader.put("runs", "late", b"2")
    finally:
        os.kill(azurite.pid, signal.SIGCONT)
    assert store.get("runs", "kept")[0] == b"1"
    reader.close()
    store.close()
