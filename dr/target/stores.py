"""The blob store of a storage account, on either target, as one of those who may open it (`dr.target.access`).

Target local: the address is in the folder that plays Azure. Target azure: the account's address and the login of this
process (`dr.target.login`); its keys are off, and what a login may do, its roles say.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from dr.errors import NotFound, PrerequisiteMissing
from dr.target import access
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders
from dr.target.login import login, server_login
from dr.vault.store import BlobStore


def open_store(subscription: str, account: str, folders: Folders | None = None) -> BlobStore:
    """Open the blobs of `account` as an operator's command; nothing is asked of the store yet.

    Errors: `PrerequisiteMissing` (the local target was never up, no passphrase, no certificate),
    `NotFound` (no such account on target local), `Refused` (wrong passphrase).
    """
    if subscription != LOCAL_SUBSCRIPTION:
        return _in_azure(account, login())
    folders = folders or Folders.from_environment()
    url = local_url(folders, account)
    return _on_this_machine(url, access.operator_login(account, folders, datetime.now(UTC)))


def open_as_site(subscription: str, account: str, folders: Folders) -> BlobStore:
    """Open the blobs of `account` as the site's servers. Errors as `open_store`, and `vault-access-missing`."""
    if subscription != LOCAL_SUBSCRIPTION:
        return _in_azure(account, server_login())
    url = local_url(folders, account)
    return _on_this_machine(url, access.site_login(account, folders).login)


def open_as_retention(subscription: str, account: str, folders: Folders) -> BlobStore:
    """Open the blobs of `account` as the one that may delete. Errors as `open_as_site`."""
    if subscription != LOCAL_SUBSCRIPTION:
        return _in_azure(account, login())
    return _on_this_machine(local_url(folders, account), access.retention_login(folders).login)


def open_for_purge(subscription: str, account: str, folders: Folders) -> BlobStore:
    """Open the blobs of `account` with every right. Errors as `open_store`."""
    if subscription != LOCAL_SUBSCRIPTION:
        return _in_azure(account, login())
    url, key = local_url(folders, account), access.account_key(account, folders)
    return _on_this_machine(url, {"account_name": account, "account_key": key})


def give_site_access(subscription: str, account: str, folders: Folders, now: datetime) -> datetime | None:
    """Give the site's servers their login, or prolong it; return when it ends. Errors as `open_store`, `Unreachable`.

    None on target azure: its servers log in with an identity of their own, and its roles are given by the vault stack.
    """
    if subscription != LOCAL_SUBSCRIPTION:
        return None
    return access.grant_site(account, local_url(folders, account), folders, now).until


def end_site_access(subscription: str, account: str, folders: Folders) -> None:
    """Revoke the login of the site's servers. Errors as `give_site_access`."""
    if subscription == LOCAL_SUBSCRIPTION:
        access.revoke_site(account, local_url(folders, account), folders)


def local_url(folders: Folders, account: str) -> str:
    """Return the address of an account of target local. `PrerequisiteMissing`, `NotFound`."""
    return f"{_local_endpoint(folders, account)}/{account}"


def _in_azure(account: str, credential: Any) -> BlobStore:
    # The SDK takes half a second to import: commands that need no store must not pay for it.
    from dr.vault.azure import AzureBlobStore  # noqa: PLC0415

    return AzureBlobStore(f"https://{account}.blob.core.windows.net", credential)


def _on_this_machine(url: str, signed: Any) -> BlobStore:
    from dr.vault.azure import AzureBlobStore  # noqa: PLC0415 - as above

    return AzureBlobStore(url, signed)


def _local_endpoint(folders: Folders, account: str) -> str:
    try:
        settings: dict[str, Any] = json.loads(folders.accounts.read_text())
        endpoint, accounts = str(settings["endpoint"]), settings["accounts"]
    except FileNotFoundError as err:
        raise PrerequisiteMissing(
            f"target local has no storage: {folders.accounts} is not there",
            code="local-target-missing",
            remedy="run `dr local up`, then `pulumi up` of the vault stack; check LIFEBOAT_LOCAL",
        ) from err
    except (ValueError, KeyError, TypeError) as err:
        raise PrerequisiteMissing(
            f"{folders.accounts} is not readable: {err!r}",
            code="local-target-missing",
            remedy="`dr local status` tells what it must hold",
        ) from err
    if account not in accounts:
        raise NotFound(f"target local has no storage account {account}", remedy="run `pulumi up` of the vault stack")
    return endpoint.rstrip("/")
