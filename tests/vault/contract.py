"""What every blob store must do; run over each implementation by a subclass with a fixture `store`.

The store has the containers `replicas`, `manifests` and `runs`. Each check says which failure it prevents.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from dr.errors import Conflict, NotFound, Refused
from dr.vault.store import MAX_PAGES_WRITE, BlobStore

MIB = 1 << 20
R, M = "replicas", "manifests"


class BlobStoreContract:
    def test_put_and_get(self, store: BlobStore) -> None:
        etag = store.put(M, "s/one.json", b"1")
        assert store.get(M, "s/one.json") == (b"1", etag)
        assert store.put(M, "s/one.json", b"22") != etag
        assert store.get(M, "s/one.json")[0] == b"22"

    def test_a_missing_blob_is_not_found(self, store: BlobStore) -> None:
        for call in (
            lambda: store.get(M, "no"),
            lambda: store.info(R, "no"),
            lambda: store.read(R, "no", 0, 512),
            lambda: list(store.page_ranges(R, "no")),
            lambda: store.write_pages(R, "no", 0, bytes(512)),
            lambda: store.snapshot(R, "no"),
            lambda: store.acquire_lease(R, "no"),
        ):
            with pytest.raises(NotFound):
                call()

    def test_create_only_never_overwrites(self, store: BlobStore) -> None:
        """A manifest that exists is history."""
        store.put(M, "s/kept.json", b"first", if_absent=True)
        with pytest.raises(Conflict):
            store.put(M, "s/kept.json", b"second", if_absent=True)
        assert store.get(M, "s/kept.json")[0] == b"first"

    def test_a_conditional_write_has_one_winner(self, store: BlobStore) -> None:
        """Two process servers that read the same writer epoch must not both raise it."""
        etag = store.put(R, "s/writer.json", b"0")

        def attempt(number: int) -> bool:
            try:
                store.put(R, "s/writer.json", str(number).encode(), if_match=etag)
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(attempt, range(8))) == 1

    def test_a_condition_on_a_missing_blob_fails(self, store: BlobStore) -> None:
        with pytest.raises((Conflict, NotFound)):
            store.put(R, "s/none.json", b"0", if_match='"0x1"')

    def test_list_is_in_order_and_below_the_prefix(self, store: BlobStore) -> None:
        for name in ("l/b", "l/a", "l/c", "la/x"):
            store.put(M, name, b"")
        store.create_pages(M, "l/p", 512, {})
        store.snapshot(M, "l/p")
        assert list(store.list(M, "l/")) == ["l/a", "l/b", "l/c", "l/p"]

    def test_delete_takes_snapshots_along_and_may_be_repeated(self, store: BlobStore) -> None:
        store.create_pages(R, "d", 512, {})
        store.snapshot(R, "d")
        store.delete(R, "d")
        store.delete(R, "d")
        with pytest.raises(NotFound):
            store.info(R, "d")

    def test_pages(self, store: BlobStore) -> None:
        store.create_pages(R, "p", 8 * MIB + 512, {"disk_size_bytes": "5"})
        with pytest.raises(Conflict):
            store.create_pages(R, "p", 512, {})
        info = store.info(R, "p")
        assert (info.name, info.size_bytes, dict(info.metadata)) == ("p", 8 * MIB + 512, {"disk_size_bytes": "5"})
        big = bytes(range(256)) * (MAX_PAGES_WRITE // 256)
        store.write_pages(R, "p", MIB, big)
        store.write_pages(R, "p", 8 * MIB, b"f" * 512)
        assert store.read(R, "p", MIB - 512, 1024) == bytes(512) + big[:512]
        assert store.read(R, "p", 0, 8 * MIB + 512) == bytes(MIB) + big + bytes(3 * MIB) + b"f" * 512
        assert list(store.page_ranges(R, "p")) == [(MIB, 4 * MIB), (8 * MIB, 512)]
        store.clear_pages(R, "p", 2 * MIB, MIB)
        assert store.read(R, "p", 2 * MIB, MIB) == bytes(MIB)
        assert list(store.page_ranges(R, "p")) == [(MIB, MIB), (3 * MIB, 2 * MIB), (8 * MIB, 512)]

    def test_a_clear_may_be_larger_than_a_write(self, store: BlobStore) -> None:
        store.create_pages(R, "clear", 32 * MIB, {})
        store.write_pages(R, "clear", 16 * MIB, b"x" * 512)
        store.clear_pages(R, "clear", MIB, 31 * MIB)
        assert list(store.page_ranges(R, "clear")) == []

    def test_a_page_blob_becomes_larger_and_its_snapshots_do_not(self, store: BlobStore) -> None:
        """A disk grew: what was stored stays, what is new is zeros, older recovery points keep their size."""
        store.create_pages(R, "grows.vhd", MIB + 512, {"a": "b"})
        store.write_pages(R, "grows.vhd", MIB, b"f" * 512)
        older = store.snapshot(R, "grows.vhd")
        lease = store.acquire_lease(R, "grows.vhd")
        with pytest.raises(Conflict):
            store.resize_pages(R, "grows.vhd", 3 * MIB)
        before = store.info(R, "grows.vhd").etag
        store.resize_pages(R, "grows.vhd", 3 * MIB, lease=lease)
        found = store.info(R, "grows.vhd")
        assert (found.size_bytes, found.metadata) == (3 * MIB, {"a": "b"}) and found.etag != before
        assert store.read(R, "grows.vhd", MIB, 1024) == b"f" * 512 + bytes(512)
        store.write_pages(R, "grows.vhd", 3 * MIB - 512, b"e" * 512, lease=lease)
        assert list(store.page_ranges(R, "grows.vhd")) == [(MIB, 512), (3 * MIB - 512, 512)]
        assert store.info(R, "grows.vhd", snapshot=older).size_bytes == MIB + 512
        assert store.read(R, "grows.vhd", MIB, 512, snapshot=older) == b"f" * 512

    def test_what_is_no_page_is_refused(self, store: BlobStore) -> None:
        store.create_pages(R, "r", MIB, {})
        for call in (
            lambda: store.write_pages(R, "r", 1, bytes(512)),
            lambda: store.write_pages(R, "r", 0, bytes(MAX_PAGES_WRITE + 512)),
            lambda: store.write_pages(R, "r", MIB, bytes(512)),
            lambda: store.clear_pages(R, "r", 0, 100),
            lambda: store.read(R, "r", MIB - 512, 1024),
            lambda: store.read(R, "r", MIB, 512),
        ):
            with pytest.raises(Refused) as refused:
                call()
            assert refused.value.code == "out-of-range"

    def test_every_change_makes_another_etag(self, store: BlobStore) -> None:
        """A writer sees by the ETag that its store went back; leases and snapshots must not look like that."""
        store.create_pages(R, "e", MIB, {})
        seen = [store.info(R, "e").etag]
        store.write_pages(R, "e", 0, b"1" * 512)
        seen.append(store.info(R, "e").etag)
        store.clear_pages(R, "e", 0, 512)
        seen.append(store.info(R, "e").etag)
        seen.append(store.set_metadata(R, "e", {"sequence": "1"}))
        assert store.info(R, "e").etag == seen[-1]
        assert dict(store.info(R, "e").metadata) == {"sequence": "1"}
        lease = store.acquire_lease(R, "e")
        store.snapshot(R, "e", lease=lease)
        store.change_lease(R, "e", lease)
        store.break_lease(R, "e")
        assert store.info(R, "e").etag == seen[-1]
        assert len(set(seen)) == len(seen)

    def test_a_snapshot_keeps_content_and_metadata(self, store: BlobStore) -> None:
        store.create_pages(R, "s", MIB, {"sequence": "1"})
        store.write_pages(R, "s", 512, b"1" * 512)
        snapshot = store.snapshot(R, "s")
        store.write_pages(R, "s", 0, b"2" * 1024)
        store.set_metadata(R, "s", {"sequence": "2"})
        assert store.read(R, "s", 0, 1024, snapshot=snapshot) == bytes(512) + b"1" * 512
        assert list(store.page_ranges(R, "s", snapshot=snapshot)) == [(512, 512)]
        assert store.info(R, "s", snapshot=snapshot).metadata["sequence"] == "1"
        assert store.info(R, "s").metadata["sequence"] == "2"
        assert store.snapshot(R, "s") != snapshot

    def test_the_inventory_names_blobs_and_snapshots_with_the_stores_own_time(self, store: BlobStore) -> None:
        """Retention counts by it: a writer that lies about the time must not age the history of others out."""
        before = datetime.now(UTC) - timedelta(seconds=2)  # stores keep whole seconds
        store.create_pages(R, "inv/os.vhd", MIB, {})
        first, second = store.snapshot(R, "inv/os.vhd"), store.snapshot(R, "inv/os.vhd")
        store.create_pages(R, "inw", 512, {})
        found = list(store.inventory(R, "inv/"))
        assert {(entry.name, entry.snapshot) for entry in found} == {("inv/os.vhd", s) for s in (first, second, None)}
        assert all(before <= entry.created <= datetime.now(UTC) for entry in found)
        created = [entry.created for entry in found if entry.snapshot is None]
        store.write_pages(R, "inv/os.vhd", 0, bytes(512))
        store.set_metadata(R, "inv/os.vhd", {"a": "b"})
        assert [entry.created for entry in store.inventory(R, "inv/") if entry.snapshot is None] == created

    def test_the_time_is_the_stores_own(self, store: BlobStore) -> None:
        """Retention waits by it: a machine whose clock is wrong must not end the wait."""
        before = datetime.now(UTC) - timedelta(seconds=2)  # as above
        assert before <= store.time(M) <= datetime.now(UTC)

    def test_one_snapshot_is_deleted_and_nothing_else(self, store: BlobStore) -> None:
        """Retention takes a point's snapshots while the replica's writer holds its lease."""
        store.create_pages(R, "one/os.vhd", MIB, {})
        first, second = store.snapshot(R, "one/os.vhd"), store.snapshot(R, "one/os.vhd")
        store.acquire_lease(R, "one/os.vhd")
        store.delete_snapshot(R, "one/os.vhd", first)
        store.delete_snapshot(R, "one/os.vhd", first)
        store.delete_snapshot(R, "one/never.vhd", first)
        assert {entry.snapshot for entry in store.inventory(R, "one/")} == {second, None}
        assert store.read(R, "one/os.vhd", 0, 512, snapshot=second) == bytes(512)

    def test_only_the_lease_holder_changes_anything(self, store: BlobStore) -> None:
        """A process server that was cut off and comes back must change nothing."""
        store.create_pages(R, "lease", MIB, {})
        store.break_lease(R, "lease")
        old = store.acquire_lease(R, "lease")
        with pytest.raises(Conflict):
            store.acquire_lease(R, "lease")
        store.write_pages(R, "lease", 0, b"1" * 512, lease=old)
        store.break_lease(R, "lease")
        new = store.acquire_lease(R, "lease")
        for lease in (old, None):
            for call in (
                lambda lease=lease: store.write_pages(R, "lease", 0, b"2" * 512, lease=lease),
                lambda lease=lease: store.clear_pages(R, "lease", 0, 512, lease=lease),
                lambda lease=lease: store.set_metadata(R, "lease", {}, lease=lease),
            ):
                with pytest.raises(Conflict):
                    call()
        with pytest.raises(Conflict):
            store.snapshot(R, "lease", lease=old)
        with pytest.raises(Conflict):
            store.change_lease(R, "lease", old)
        assert store.read(R, "lease", 0, 512) == b"1" * 512
        store.write_pages(R, "lease", 0, b"3" * 512, lease=new)
        store.snapshot(R, "lease", lease=new)

    def test_a_lease_that_nobody_holds_is_no_permission(self, store: BlobStore) -> None:
        store.create_pages(R, "broken", MIB, {})
        lease = store.acquire_lease(R, "broken")
        store.break_lease(R, "broken")
        with pytest.raises(Conflict):
            store.write_pages(R, "broken", 0, b"2" * 512, lease=lease)

    def test_a_changed_lease_shuts_late_requests_out(self, store: BlobStore) -> None:
        """A request that was given up may still arrive; under the old id it must fail."""
        store.create_pages(R, "change", MIB, {})
        old = store.acquire_lease(R, "change")
        new = store.change_lease(R, "change", old)
        with pytest.raises(Conflict):
            store.write_pages(R, "change", 0, b"late" * 128, lease=old)
        store.write_pages(R, "change", 0, b"3" * 512, lease=new)

    def test_copy_of_a_snapshot(self, store: BlobStore) -> None:
        store.create_pages(R, "c/os.vhd", MIB, {"sequence": "4"})
        store.write_pages(R, "c/os.vhd", 512, b"1" * 512)
        snapshot = store.snapshot(R, "c/os.vhd")
        store.write_pages(R, "c/os.vhd", 512, b"2" * 512)
        store.copy_snapshot(R, "c/os.vhd", snapshot, "runs", "p/r/os.vhd")
        assert store.read("runs", "p/r/os.vhd", 0, MIB) == bytes(512) + b"1" * 512 + bytes(MIB - 1024)
        assert list(store.page_ranges("runs", "p/r/os.vhd")) == [(512, 512)]
        with pytest.raises(Conflict):
            store.copy_snapshot(R, "c/os.vhd", snapshot, "runs", "p/r/os.vhd")

    def test_the_address_carries_no_secret(self, store: BlobStore) -> None:
        address = store.url("runs", "p/r/os.vhd")
        assert address.endswith("/runs/p/r/os.vhd")
        assert "?" not in address
