"""Who may do what in the vault's storage, and how each of them gets there on target local.

| who | replicas | manifests | runs | retention | observed | register | how, on target local |
| --- | --- | --- | --- | --- | --- | --- | --- |
| site | r c w l | r c l | - | r | - | r c l | signatures in `site/keys/vault.json`, made by `up` of the site stack |
| operator | r l | r l | r c w d l | r c w d l | - | r l | signatures made for each command from the account's key |
| retention | r d l | r d l | r l | r l | r c w d l | - | `cloud/retention.json`, by the vault stack and `dr local up` |
| purge | all | all | all | all | all | all | the account's key, which only the break-glass secret opens |

The site is its process servers and its configuration server; an operator is any command of `dr` and `pulumi`. Only
retention and purge can delete history, and only they write the times that deletions rely on; nobody but the site
writes history; nobody at all overwrites a manifest or a revocation. On target
azure the same table is roles on the containers (`stacks/vault.py`), and each of them has an identity.

Both files hold secrets: mode 0600, in no state, history or log. The site's signatures hang on a stored access policy
and end when it is taken away.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dr.compile import names
from dr.durable import write_durably
from dr.errors import PrerequisiteMissing
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders
from dr.target.secrets import key_store

if TYPE_CHECKING:
    from dr.vault.azure import PerContainer

SITE = {names.REPLICAS: "rcwl", names.MANIFESTS: "rcl", names.RETENTION: "r", names.REGISTER: "rcl"}
OPERATOR = {
    names.REPLICAS: "rl",
    names.MANIFESTS: "rl",
    names.RUNS: "rcwdl",
    names.RETENTION: "rcwdl",
    names.REGISTER: "rl",
}
RETENTION = {
    names.REPLICAS: "rdl",
    names.MANIFESTS: "rdl",
    names.RUNS: "rl",
    names.RETENTION: "rl",
    names.OBSERVED: "rcwdl",
}

SITE_DAYS = 90
SITE_RENEWED_BEFORE_DAYS = 60  # any `up` later than a month after the last one prolongs it
SITE_ENDING_DAYS = 14
COMMAND_HOURS = 24  # of an operator's command: the longest copy of a disk
RETENTION_DAYS = 365
SITE_FILE = "keys/vault.json"
RETENTION_FILE = "retention.json"


@dataclass(frozen=True, slots=True)
class Signatures:
    """One login as a file holds it; `until` is when it ends, `policy` what it hangs on."""

    account: str
    policy: str
    until: datetime
    containers: Mapping[str, str]

    @property
    def login(self) -> PerContainer:
        from dr.vault.azure import PerContainer  # noqa: PLC0415 - loads the Azure SDK

        return PerContainer(self.containers)


def account_key(account: str, folders: Folders) -> str:
    """Return the key of an account of target local; needs the break-glass secret. `NotFound`, `Refused`."""
    return key_store(LOCAL_SUBSCRIPTION, folders).get(f"storage-{account}").decode()


def operator_login(account: str, folders: Folders, now: datetime) -> PerContainer:
    """Return the login of one command; needs the break-glass secret."""
    return _signed(account, account_key(account, folders), OPERATOR, now + timedelta(hours=COMMAND_HOURS))


def grant_site(account: str, url: str, folders: Folders, now: datetime) -> Signatures:
    """Write the site's login, or prolong the one that is there; needs the break-glass secret.

    A file that is missing, unreadable or of another account is made anew, and whatever was signed before is revoked.
    Raises `NotFound`, `Refused` (wrong passphrase), `Unreachable`.
    """
    from dr.vault import signatures  # noqa: PLC0415 - as above

    key, held = account_key(account, folders), _held(folders.site / SITE_FILE, account)
    policy = held.policy if held else f"site-{secrets.token_hex(4)}"
    until = now + timedelta(days=SITE_DAYS)
    _set_policies(account, key, url, policy, until)
    containers = {container: signatures.under_policy(account, key, container, policy) for container in SITE}
    granted = Signatures(account, policy, until, containers)
    _write(folders.site / SITE_FILE, granted)
    return granted


def revoke_site(account: str, url: str, folders: Folders) -> None:
    """End the site's login at once, wherever a copy of it is; needs the break-glass secret."""
    (folders.site / SITE_FILE).unlink(missing_ok=True)
    _set_policies(account, account_key(account, folders), url, None, datetime.now(UTC))


def site_granted(site: Path) -> Signatures | None:
    """Return what the site with this folder was given, None when there is nothing readable."""
    return _held(site / SITE_FILE, None)


def site_login(account: str, folders: Folders) -> Signatures:
    """Return what the site was given. `PrerequisiteMissing` `vault-access-missing`."""
    return _required(folders.site / SITE_FILE, account, "run `pulumi up --refresh` of the site stack")


def grant_retention(account: str, folders: Folders, now: datetime) -> None:
    """Write the login of the retention process; needs the break-glass secret."""
    until = now + timedelta(days=RETENTION_DAYS)
    signed = _signed(account, account_key(account, folders), RETENTION, until)
    _write(folders.cloud / RETENTION_FILE, Signatures(account, "", until, signed.signatures))


def retention_login(folders: Folders) -> Signatures:
    """Return what the retention process was given. `PrerequisiteMissing` `vault-access-missing`."""
    return _required(folders.cloud / RETENTION_FILE, None, "run `pulumi up` of the vault stack, or `dr local up`")


def _set_policies(account: str, key: str, url: str, policy: str | None, until: datetime) -> None:
    from dr.vault.azure import AzureBlobStore  # noqa: PLC0415 - as above

    store = AzureBlobStore(url, {"account_name": account, "account_key": key})
    try:
        for container, letters in SITE.items():
            store.set_policy(container, policy, letters, until)
    finally:
        store.close()


def _signed(account: str, key: str, letters: Mapping[str, str], until: datetime) -> PerContainer:
    from dr.vault import signatures  # noqa: PLC0415 - as above
    from dr.vault.azure import PerContainer  # noqa: PLC0415 - as above

    until = until.replace(microsecond=0)
    return PerContainer(
        {
            container: signatures.whole_account(account, key, allowed, until)
            if container == names.REPLICAS
            else signatures.of_container(account, key, container, allowed, until)
            for container, allowed in letters.items()
        }
    )


def _write(path: Path, granted: Signatures) -> None:
    document = {
        "account": granted.account,
        "policy": granted.policy,
        "until": granted.until.isoformat(),
        "containers": dict(granted.containers),
    }
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_durably(path, json.dumps(document, indent=1).encode(), mode=0o600)


def _required(path: Path, account: str | None, remedy: str) -> Signatures:
    held = _held(path, account)
    if held is None:
        raise PrerequisiteMissing(f"{path} gives no way into the vault", code="vault-access-missing", remedy=remedy)
    return held


def _held(path: Path, account: str | None) -> Signatures | None:
    try:
        document: dict[str, Any] = json.loads(path.read_bytes())
        held = Signatures(
            str(document["account"]),
            str(document["policy"]),
            datetime.fromisoformat(document["until"]).astimezone(UTC),
            {str(name): str(signature) for name, signature in document["containers"].items()},
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return held if account in {None, held.account} else None
