"""Shared access signatures: what a login that is not the account's key may do, container by container. Pure.

| letter | allows |
| --- | --- |
| r, l | read, list |
| c | make what does not exist (also a snapshot); never overwrite |
| w | change what exists: pages, metadata, leases, and its whole content |
| d | delete, break a lease |

Rules:
- A signature under a stored access policy (`under_policy`) is revoked by taking the policy away, and prolonged by
  moving the policy's end; the signature itself stays the same.
- Snapshots are read and deleted with a signature for the account's objects (`whole_account`): Azurite never accepts a
  container's signature for a request that names a snapshot (it signs the snapshot's time, as the service does only for
  signatures of one snapshot). Such a signature has the same letters in every container, so it carries neither c nor w.
"""

from __future__ import annotations

from datetime import datetime

from azure.storage.blob import ResourceTypes, generate_account_sas, generate_container_sas


def of_container(account: str, key: str, container: str, letters: str, until: datetime) -> str:
    """Return a signature for one container."""
    return generate_container_sas(account, container, account_key=key, permission=letters, expiry=until)


def whole_account(account: str, key: str, letters: str, until: datetime) -> str:
    """Return a signature for all blobs of the account, snapshots included."""
    return generate_account_sas(account, key, ResourceTypes(container=True, object=True), letters, until)


def under_policy(account: str, key: str, container: str, policy: str) -> str:
    """Return a signature for one container that is worth what its stored access policy says."""
    return generate_container_sas(account, container, account_key=key, policy_id=policy)
