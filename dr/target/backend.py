"""Where the stacks of target azure keep their state, and what encrypts its secrets: what `dr bootstrap` makes.

All of it follows from the declaration: a laptop that has only the YAML and a login finds it again.
"""

from __future__ import annotations

from dataclasses import dataclass

from dr.compile import names
from dr.model import Site


@dataclass(frozen=True, slots=True)
class Backend:
    """`state_url` and `secrets_provider` as Pulumi takes them; `key_store_url` is the Key Vault of the vault stack."""

    state_url: str
    secrets_provider: str
    key_store_url: str


def backend_of(site: Site, subscription: str) -> Backend:
    """Return the backend of a site's stacks on target azure."""
    account, vault = names.state_account(site.name, subscription), names.state_key_vault(site.name, subscription)
    return Backend(
        state_url=f"azblob://{names.STATE}?storage_account={account}",
        secrets_provider=f"azurekeyvault://{vault}.vault.azure.net/keys/{names.STATE_KEY}",
        key_store_url=f"https://{names.key_vault(site.name, subscription)}.vault.azure.net",
    )
