"""What the stand-in asks of Azurite: containers, and the content of a blob that a managed disk is imported from.

A module of its own, imported where it is needed: the storage SDK costs a second that a preview need not pay.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from azure.core import MatchConditions
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceModifiedError, ResourceNotFoundError
from azure.storage.blob import BlobClient, BlobServiceClient, BlobType

from dr.errors import Corrupt, Degraded, Unreachable
from dr.local.standin.kinds import Cloud, Voice, azure_error
from dr.vault.vhd import FOOTER_BYTES, parse_footer

T = TypeVar("T")

REQUEST_SECONDS = 20
PIECE_BYTES = 4 << 20  # what Azure Storage reads in one request at full speed
WORKERS = 4
MIB = 1 << 20
_TOLD_EVERY_BYTES = 32 * MIB


def containers(cloud: Cloud, account: str) -> list[str]:
    """Return the names of an account's containers. `Unreachable`."""
    with _client(cloud, account) as client:
        return _answered(lambda: [str(container.name) for container in client.list_containers()])


def create_container(cloud: Cloud, account: str, name: str) -> None:
    """Make a container. Azure's `ContainerAlreadyExists`; `Unreachable`."""
    with _client(cloud, account) as client:
        try:
            _answered(lambda: client.create_container(name, timeout=REQUEST_SECONDS))
        except ResourceExistsError:
            raise azure_error("ContainerAlreadyExists", f"the specified container {name} already exists") from None


def container_exists(cloud: Cloud, account: str, name: str) -> bool:
    """Say whether a container is there. `Unreachable`."""
    with _client(cloud, account) as client:
        return _answered(client.get_container_client(name).exists)


def delete_container(cloud: Cloud, account: str, name: str) -> None:
    """Delete a container with its blobs; no error when there is none. `Unreachable`."""
    with _client(cloud, account) as client:
        try:
            _answered(lambda: client.delete_container(name))
        except ResourceNotFoundError:
            # Deleting is repeated after an interruption.
            return


def import_disk(cloud: Cloud, account: str, container: str, name: str, base: Path, voice: Voice) -> int:
    """Write the disk inside the fixed VHD of a page blob to `base`, sparse, and return its size in bytes.

    Azure's `BlobNotFound`, `InvalidVhd`, `InvalidParameter`; `Degraded` when the run is cancelled; `Unreachable`.
    """
    cloud.azurite.start()
    url = f"{cloud.azurite.endpoint()}/{account}"
    with BlobClient(url, container, name, credential=cloud.azurite.key(account)) as blob:
        try:
            size, etag = _checked(blob)
            _download(cloud, blob, etag, size, base, voice)
        except ResourceNotFoundError:
            raise azure_error("BlobNotFound", f"the source blob {container}/{name} does not exist") from None
        except ResourceModifiedError:
            raise azure_error("ConditionNotMet", f"{container}/{name} changed while it was imported") from None
        except AzureError as error:
            raise Unreachable(f"the import of {container}/{name} was cut off: {error}") from error
    return size


def _checked(blob: BlobClient) -> tuple[int, str]:
    """Return (size of the disk in bytes, ETag) of a blob that is a valid fixed VHD."""
    properties = blob.get_blob_properties()
    size = int(properties.size) - FOOTER_BYTES
    if properties.blob_type != BlobType.PAGEBLOB:
        raise azure_error("InvalidParameter", "the source blob is not a page blob")
    if size <= 0 or size % MIB:
        raise azure_error("InvalidVhd", f"the disk in the VHD has {size} bytes, not a whole number of MiB")
    try:
        footer = parse_footer(blob.download_blob(size, FOOTER_BYTES).readall())
    except Corrupt as error:
        raise azure_error("InvalidVhd", f"the source blob is no fixed VHD: {error.message}") from error
    if footer.size_bytes != size:
        raise azure_error("InvalidVhd", f"the VHD's footer says {footer.size_bytes} bytes, the blob holds {size}")
    return size, str(properties.etag)


def _download(cloud: Cloud, blob: BlobClient, etag: str, size: int, base: Path, voice: Voice) -> None:
    pieces = _pieces(blob, size)
    total, done = sum(length for _, length in pieces), 0
    descriptor = os.open(base, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o400)

    def fetch(piece: tuple[int, int]) -> int:
        if cloud.cancelled.is_set():
            raise Degraded("the import was cancelled; what it had copied is removed", code="cancelled")
        offset, length = piece
        # The ETag holds the whole import to one state of the blob.
        stream = blob.download_blob(offset, length, etag=etag, match_condition=MatchConditions.IfNotModified)
        os.pwrite(descriptor, stream.readall(), offset)
        return length

    try:
        os.ftruncate(descriptor, size)
        with ThreadPoolExecutor(WORKERS) as pool:
            try:
                for length in pool.map(fetch, pieces):
                    before, done = done, done + length
                    if done // _TOLD_EVERY_BYTES != before // _TOLD_EVERY_BYTES:
                        voice.status(f"importing {done // MIB} of {total // MIB} MB")
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _pieces(blob: BlobClient, size: int) -> list[tuple[int, int]]:
    """Return (offset, length) of what holds data, in pieces of one request; the footer is not part of the disk."""
    pieces: list[tuple[int, int]] = []
    for page_range in blob.list_page_ranges():
        if page_range.cleared or page_range.start is None or page_range.end is None:
            continue
        end = min(page_range.end + 1, size)
        pieces += [(o, min(PIECE_BYTES, end - o)) for o in range(page_range.start, end, PIECE_BYTES)]
    return pieces


def _client(cloud: Cloud, account: str) -> BlobServiceClient:
    cloud.azurite.start()
    return BlobServiceClient(f"{cloud.azurite.endpoint()}/{account}", credential=cloud.azurite.key(account))


def _answered(call: Callable[[], T]) -> T:
    """Run a storage call; what is neither "exists" nor "not found" means that Azurite does not answer."""
    try:
        return call()
    except (ResourceExistsError, ResourceNotFoundError):
        raise
    except AzureError as error:
        raise Unreachable(f"the local storage does not answer: {error}", remedy="run `dr local up`") from error
