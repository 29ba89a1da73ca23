"""The vault on Azure Storage, by the synchronous client of azure-storage-blob.

Tried against Azurite only; the real service never (no connection to it exists where this was written). Where the two
are known to differ, the code follows the service's documentation.

Rules:
- The client's own retries are off. Reads are repeated here on any transport failure. Changes are repeated only when
  the service itself says "busy" (503, 429: nothing was done); after a broken connection nobody knows whether the
  change arrived, so the caller hears `Unreachable` and decides. That also makes a store that was restarted, and may
  have gone back, visible to the replica's writer.
- All of it ends within `PATIENCE_SECONDS` and one time-out, so that a stopped store turns into back-pressure.
- One connection per thread of a writer is kept open.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import requests
from azure.core import MatchConditions
from azure.core.exceptions import AzureError
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import AccessPolicy, BlobClient, BlobLeaseClient, BlobServiceClient
from requests.adapters import HTTPAdapter

from dr.azure_failures import Meaning, code_of, meaning, nothing_was_done, words_of
from dr.errors import Conflict, LifeboatError, NotFound, Refused, Unreachable
from dr.vault.store import MAX_PAGES_WRITE, PAGE, BlobEntry, BlobInfo

CONNECTIONS = 16
PATIENCE_SECONDS = 5.0
_CONNECT_SECONDS = 20  # also bounds the sending of one 4 MiB request, so a slow line needs it
_ANSWER_SECONDS = 20
_PAUSES_SECONDS = (0.1, 0.3, 1.0, 2.0)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PerContainer:
    """A login that is another one for each container; containers without one are closed."""

    signatures: Mapping[str, str]


class AzureBlobStore:
    """`BlobStore` on a storage account; `credential` is a token credential, the account's key, or `PerContainer`."""

    def __init__(self, account_url: str, credential: Any, *, answer_seconds: int = _ANSWER_SECONDS) -> None:
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_connections=2, pool_maxsize=CONNECTIONS))
        self._url, self._answer_seconds = account_url.rstrip("/"), answer_seconds
        self._whole: BlobServiceClient | None = None
        self._parts: dict[str, BlobServiceClient] = {}
        if isinstance(credential, PerContainer):
            self._parts = {name: self._client(signature) for name, signature in credential.signatures.items()}
        else:
            self._whole = self._client(credential)

    def put(
        self, container: str, name: str, data: bytes, *, if_absent: bool = False, if_match: str | None = None
    ) -> str:
        options: dict[str, Any] = {"overwrite": not if_absent}
        if if_match is not None:
            options |= {"etag": if_match, "match_condition": MatchConditions.IfNotModified}
        blob = self._blob(container, name)
        try:
            return str(self._change(blob, lambda: blob.upload_blob(data, **options))["etag"])
        except Refused:
            # To a login that may only create, the service answers "not allowed" before it answers "exists".
            if if_absent:
                with suppress(NotFound):
                    self.info(container, name)
                    raise Conflict(f"{_name(blob)} exists already", code="exists") from None
            raise

    def get(self, container: str, name: str) -> tuple[bytes, str]:
        blob = self._blob(container, name)

        def fetch() -> tuple[bytes, str]:
            download = blob.download_blob()
            return download.readall(), str(download.properties.etag)

        return self._read(blob, fetch)

    def list(self, container: str, prefix: str = "") -> Iterator[str]:
        client = self._service(container).get_container_client(container)
        # Read as a whole: a page that fails halfway can't be repeated once names were handed out.
        found = _repeat(lambda: list(client.list_blob_names(name_starts_with=prefix)), container, safe=True)
        yield from map(str, found)

    def inventory(self, container: str, prefix: str = "") -> Iterator[BlobEntry]:
        client = self._service(container).get_container_client(container)
        found = _repeat(
            lambda: list(client.list_blobs(name_starts_with=prefix, include=["snapshots"])), container, safe=True
        )
        for blob in found:
            # A snapshot is listed with its blob's creation; its own is its name.
            created = blob.creation_time if blob.snapshot is None else datetime.fromisoformat(str(blob.snapshot))
            assert created is not None
            yield BlobEntry(str(blob.name), blob.snapshot, created)

    def time(self, container: str) -> datetime:
        client = self._service(container).get_container_client(container)

        def ask() -> datetime:
            dates: list[str] = []
            answers = client.list_blobs(
                results_per_page=1, raw_response_hook=lambda answer: dates.append(answer.http_response.headers["Date"])
            )
            next(iter(answers), None)
            return parsedate_to_datetime(dates[-1])

        return _repeat(ask, container, safe=True)

    def delete(self, container: str, name: str) -> None:
        blob = self._blob(container, name)
        try:
            self._change(blob, lambda: blob.delete_blob(delete_snapshots="include"))
        except NotFound:
            return

    def create_pages(self, container: str, name: str, size_bytes: int, metadata: Mapping[str, str]) -> None:
        blob = self._blob(container, name)
        values, absent = dict(metadata), MatchConditions.IfMissing
        self._change(blob, lambda: blob.create_page_blob(size_bytes, metadata=values, match_condition=absent))

    def resize_pages(self, container: str, name: str, size_bytes: int, *, lease: str | None = None) -> None:
        blob = self._blob(container, name)
        self._change(blob, lambda: blob.resize_blob(size_bytes, lease=lease))

    def info(self, container: str, name: str, *, snapshot: str | None = None) -> BlobInfo:
        blob = self._blob(container, name, snapshot)
        found = self._read(blob, blob.get_blob_properties)
        return BlobInfo(name, int(found.size), str(found.etag), dict(found.metadata or {}))

    def write_pages(self, container: str, name: str, offset: int, data: bytes, *, lease: str | None = None) -> None:
        if len(data) > MAX_PAGES_WRITE:
            raise Refused(f"one write has at most {MAX_PAGES_WRITE} bytes", code="out-of-range")
        _check_pages(container, name, offset, len(data))
        blob = self._blob(container, name)
        self._change(blob, lambda: blob.upload_page(data, offset, len(data), lease=lease))

    def clear_pages(self, container: str, name: str, offset: int, length: int, *, lease: str | None = None) -> None:
        _check_pages(container, name, offset, length)
        blob = self._blob(container, name)
        self._change(blob, lambda: blob.clear_page(offset, length, lease=lease))

    def read(self, container: str, name: str, offset: int, length: int, *, snapshot: str | None = None) -> bytes:
        blob = self._blob(container, name, snapshot)
        data = self._read(blob, lambda: blob.download_blob(offset, length).readall())
        if len(data) != length:
            raise Refused(f"{container}/{name} ends before {offset + length}", code="out-of-range")
        return data

    def page_ranges(self, container: str, name: str, *, snapshot: str | None = None) -> Iterator[tuple[int, int]]:
        blob = self._blob(container, name, snapshot)
        for part in self._read(blob, lambda: list(blob.list_page_ranges())):
            if not part.cleared and part.start is not None and part.end is not None:
                yield part.start, part.end - part.start + 1

    def set_metadata(self, container: str, name: str, metadata: Mapping[str, str], *, lease: str | None = None) -> str:
        blob = self._blob(container, name)
        return str(self._change(blob, lambda: blob.set_blob_metadata(dict(metadata), lease=lease))["etag"])

    def snapshot(self, container: str, name: str, *, lease: str | None = None) -> str:
        blob = self._blob(container, name)
        return str(self._change(blob, lambda: blob.create_snapshot(lease=lease))["snapshot"])

    def delete_snapshot(self, container: str, name: str, snapshot: str) -> None:
        blob = self._blob(container, name, snapshot)
        with suppress(NotFound):
            self._change(blob, blob.delete_blob)

    def acquire_lease(self, container: str, name: str) -> str:
        blob, lease = self._blob(container, name), str(uuid.uuid4())
        self._change(blob, lambda: BlobLeaseClient(blob, lease_id=lease).acquire(lease_duration=-1))
        return lease

    def change_lease(self, container: str, name: str, lease: str) -> str:
        blob, newer = self._blob(container, name), str(uuid.uuid4())
        self._change(blob, lambda: BlobLeaseClient(blob, lease_id=lease).change(newer))
        return newer

    def break_lease(self, container: str, name: str) -> None:
        blob = self._blob(container, name)
        try:
            self._change(blob, lambda: BlobLeaseClient(blob).break_lease(lease_break_period=0))
        except Conflict:
            return  # there is none

    def copy_snapshot(self, container: str, name: str, snapshot: str, to_container: str, to_name: str) -> None:
        source, target = self._blob(container, name, snapshot), self._blob(to_container, to_name)
        absent = MatchConditions.IfMissing
        self._change(target, lambda: target.start_copy_from_url(source.url, match_condition=absent))
        pause = 0.05
        while True:
            copy = self._read(target, target.get_blob_properties).copy
            if copy.status == "success":
                return
            if copy.status != "pending":
                raise LifeboatError(f"the copy to {to_container}/{to_name} ended as {copy.status}", code="copy-failed")
            time.sleep(pause)
            pause = min(2 * pause, 5.0)

    def url(self, container: str, name: str) -> str:
        return f"{self._url}/{container}/{name}"

    def set_policy(self, container: str, policy: str | None, letters: str, until: datetime) -> None:
        """Make `policy` the one stored access policy of a container; what was signed under another one ends at once.

        None leaves none. Only the account's key may do this.
        """
        client = self._service(container).get_container_client(container)
        kept = {} if policy is None else {policy: AccessPolicy(permission=letters, expiry=until)}
        _repeat(lambda: client.set_container_access_policy(kept), container, safe=True)

    def close(self) -> None:
        for client in filter(None, (self._whole, *self._parts.values())):
            client.close()
        self._session.close()

    def _client(self, credential: Any) -> BlobServiceClient:
        return BlobServiceClient(
            self._url,
            credential=credential,
            transport=RequestsTransport(
                session=self._session,
                session_owner=False,
                connection_timeout=_CONNECT_SECONDS,
                read_timeout=self._answer_seconds,
            ),
            retry_total=0,
            max_single_get_size=MAX_PAGES_WRITE,
            max_chunk_get_size=MAX_PAGES_WRITE,
        )

    def _service(self, container: str) -> BlobServiceClient:
        client = self._whole or self._parts.get(container)
        if client is None:
            raise Refused(
                f"this login has no way into container {container}",
                code="login-refused",
                remedy="run the command from a machine that has the break-glass secret",
            )
        return client

    def _blob(self, container: str, name: str, snapshot: str | None = None) -> BlobClient:
        return self._service(container).get_blob_client(container, name, snapshot=snapshot)

    def _read(self, blob: BlobClient, call: Callable[[], T]) -> T:
        return _repeat(call, _name(blob), safe=True)

    def _change(self, blob: BlobClient, call: Callable[[], T]) -> T:
        return _repeat(call, _name(blob), safe=False)


def _repeat(call: Callable[[], T], what: str, *, safe: bool) -> T:
    """Call until it works, fails for good or patience ends; `safe`: repeating it can do no harm."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    for pause in (*_PAUSES_SECONDS, None):
        try:
            return call()
        except AzureError as err:
            failure = _ours(err, what)
            again = isinstance(failure, Unreachable) and (safe or nothing_was_done(err))
            if pause is None or not again or time.monotonic() + pause > deadline:
                raise failure from err
            time.sleep(pause)
    raise AssertionError("the last round returns or raises")


def _ours(error: AzureError, what: str) -> LifeboatError:
    code = code_of(error)
    reason = code or words_of(error)
    match meaning(error):
        case Meaning.SILENT:
            return Unreachable(
                f"{what}: the store does not answer ({reason})",
                code="store-unavailable",
                remedy="nothing is lost; the work goes on when the store answers again",
            )
        case Meaning.MISSING:
            return NotFound(f"{what} does not exist")
        case Meaning.CONFLICT:
            return Conflict(f"{what}: {reason}", code=_CONFLICTS.get(code, "conflict"))
        case Meaning.OUT_OF_RANGE:
            return Refused(f"{what} ends before that", code="out-of-range")
        case Meaning.NO_LOGIN | Meaning.FORBIDDEN:
            return Refused(
                f"{what}: the store refused the login ({reason})",
                code="login-refused",
                remedy="target azure: `az login`, and check the roles on the storage account; a site's own login on "
                "target local: `pulumi up` of the site stack",
            )
    return LifeboatError(f"{what}: {reason}", code="store-failed")


_CONFLICTS = {
    "BlobAlreadyExists": "exists",
    "BlobImmutableDueToPolicy": "immutable",
    "ConditionNotMet": "condition-not-met",
    "LeaseAlreadyPresent": "lease-held",
    "LeaseIdMissing": "lease-lost",
    "LeaseIdMismatchWithBlobOperation": "lease-lost",
    "LeaseIdMismatchWithLeaseOperation": "lease-lost",
    "LeaseLost": "lease-lost",
    "LeaseNotPresentWithBlobOperation": "lease-lost",
    "LeaseNotPresentWithLeaseOperation": "lease-lost",
}


def _name(blob: BlobClient) -> str:
    return f"{blob.container_name}/{blob.blob_name}"


def _check_pages(container: str, name: str, offset: int, length: int) -> None:
    if offset % PAGE or length % PAGE or offset < 0 or length <= 0:
        raise Refused(f"{container}/{name}: not whole pages of a page blob", code="out-of-range")
