"""The management and secret services of Azure, by its own SDK and one login; and their failures as ours.

Never tried against the real services (no connection to them exists where this was written): the tests play them by a
transport of their own. Repeating is left to the SDK, bounded so that a dead line is told within minutes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import AzureError

from dr.azure_failures import Meaning, code_of, meaning, status_of, words_of
from dr.errors import Conflict, LifeboatError, NotFound, PrerequisiteMissing, Refused, Unreachable
from dr.target.login import login

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.keyvault.secrets import SecretClient
    from azure.mgmt.resource.resources import ResourceManagementClient

MANAGEMENT = "https://management.azure.com"
SECRETS_API_VERSION = "7.4"
_BOUNDS = {"retry_total": 4, "retry_backoff_max": 20, "connection_timeout": 20, "read_timeout": 60}


class Azure:
    """The services as one login reaches them; `options` go to every client of the SDK (the tests' transport)."""

    def __init__(self, credential: TokenCredential, **options: Any) -> None:
        self._credential = credential
        self._options = {**_BOUNDS, **options}

    def secrets(self, vault_url: str) -> SecretClient:
        """Return the secrets of a Key Vault."""
        from azure.keyvault.secrets import SecretClient  # noqa: PLC0415 - only who needs it pays for the import

        return SecretClient(vault_url, self._credential, api_version=SECRETS_API_VERSION, **self._options)

    def resources(self, subscription: str) -> ResourceManagementClient:
        """Return the resources of a subscription, of whatever type."""
        from azure.mgmt.resource.resources import ResourceManagementClient  # noqa: PLC0415 - as above

        return ResourceManagementClient(self._credential, subscription, base_url=MANAGEMENT, **self._options)

    def claims(self) -> Mapping[str, Any]:
        """Return what the login service says of us: `oid`, `tid`, `idtyp`. `Refused` without a login."""
        try:
            token = self._credential.get_token(f"{MANAGEMENT}/.default").token
        except AzureError as error:
            raise failure(error, "login") from error
        content = token.split(".")[1]
        claims: Mapping[str, Any] = json.loads(base64.urlsafe_b64decode(content + "=" * (-len(content) % 4)))
        return claims


def connect() -> Azure:
    """Return Azure with the login of this process; nothing is asked of it yet."""
    return Azure(login())


def failure(error: AzureError, what: str) -> LifeboatError:
    """Return what the SDK raised about `what` as an error of ours."""
    said = code_of(error) or str(status_of(error) or type(error).__name__)
    kind, text, code, remedy = _FAILURES.get(meaning(error), _OTHER)
    return kind(text.format(what=what, said=said, words=words_of(error)), code=code, remedy=remedy)


# The error of ours, what it says, its code (None: the class's), the remedy.
_FAILURES: Mapping[Meaning, tuple[type[LifeboatError], str, str | None, str | None]] = {
    Meaning.NO_LOGIN: (
        Refused,
        "{what}: Azure knows no login here: {words}",
        "login-refused",
        "log in with `az login`, or set the certificate of the site's application (docs/azure.md, Login)",
    ),
    Meaning.FORBIDDEN: (
        Refused,
        "{what}: this login may not: {words}",
        "role-missing",
        "docs/azure.md lists the roles that are needed; a role just given counts after some minutes",
    ),
    Meaning.SILENT: (
        Unreachable,
        "{what}: Azure does not answer: {words}",
        None,
        "try again; see the state of the region",
    ),
    Meaning.UNREGISTERED: (
        PrerequisiteMissing,
        "{what}: {words}",
        "provider-not-registered",
        "`az provider register --namespace NAME --wait`",
    ),
    Meaning.NO_SUBSCRIPTION: (
        NotFound,
        "{what}: {words}",
        "subscription-not-found",
        "check `subscription` of the site in plans/, and whom `az account show` says you are",
    ),
    Meaning.MISSING: (NotFound, "{what} does not exist in Azure", None, None),
    Meaning.CONFLICT: (
        Conflict,
        "{what}: {said}: {words}",
        None,
        "see what holds the name; it may be soft-deleted",
    ),
}
_OTHER = (LifeboatError, "{what}: {said}: {words}", "azure-failed", None)
