"""The blob store of a storage account, on either target.

Target local: the address is in the folder that plays Azure, the key in its key store under the break-glass
passphrase. Target azure: the account's address and the login of this process (`dr.target.login`); its keys are off.
"""

from __future__ import annotations

import json
from typing import Any

from dr.errors import NotFound, PrerequisiteMissing
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders
from dr.target.login import login
from dr.target.secrets import key_store
from dr.vault.store import BlobStore


def open_store(subscription: str, account: str, folders: Folders | None = None) -> BlobStore:
    """Open the blobs of `account`; nothing is asked of the store yet.

    Errors: `PrerequisiteMissing` (the local target was never up, no passphrase, no certificate),
    `NotFound` (no such account on target local), `Refused` (wrong passphrase).
    """
    # The SDK takes half a second to import: commands that need no store must not pay for it.
    from dr.vault.azure import AzureBlobStore  # noqa: PLC0415

    if subscription != LOCAL_SUBSCRIPTION:
        return AzureBlobStore(f"https://{account}.blob.core.windows.net", login())
    folders = folders or Folders.from_environment()
    endpoint = _local_endpoint(folders, account)
    key = key_store(subscription, folders).get(f"storage-{account}").decode()
    return AzureBlobStore(f"{endpoint}/{account}", {"account_name": account, "account_key": key})


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
