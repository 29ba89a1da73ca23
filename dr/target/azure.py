"""The management and secret services of Azure, by its own SDK and one login; and their failures as ours.

Never tried against the real services (no connection to them exists where this was written): the tests play them by a
transport of their own. Repeating is left to the SDK, bounded so that a dead line is told within minutes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

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
    status = (error.status_code or 0) if isinstance(error, HttpResponseError) else 0
    code, words = _code(error), (str(error.message).splitlines() or [type(error).__name__])[0]
    if isinstance(error, ClientAuthenticationError) or status in {401, 403}:
        return _refused(what, words, role_missing=status == 403)
    if isinstance(error, ServiceRequestError | ServiceResponseError) or status >= 500 or status == 429:
        return Unreachable(f"{what}: Azure does not answer: {words}", remedy="try again; see the state of the region")
    if code == "MissingSubscriptionRegistration":
        return PrerequisiteMissing(
            f"{what}: {words}", code="provider-not-registered", remedy="`az provider register --namespace NAME --wait`"
        )
    if status == 404:
        return NotFound(f"{what} does not exist in Azure")
    if status in {409, 412}:
        return Conflict(f"{what}: {code or status}: {words}", remedy="see what holds the name; it may be soft-deleted")
    return LifeboatError(f"{what}: {code or status or type(error).__name__}: {words}", code="azure-failed")


def _refused(what: str, words: str, *, role_missing: bool) -> Refused:
    if role_missing:
        return Refused(
            f"{what}: this login may not: {words}",
            code="role-missing",
            remedy="docs/azure.md lists the roles that are needed; a role just given counts after some minutes",
        )
    return Refused(
        f"{what}: Azure knows no login here: {words}",
        code="login-refused",
        remedy="log in with `az login`, or set the certificate of the site's application (docs/azure.md, Login)",
    )


def _code(error: AzureError) -> str:
    return str(getattr(getattr(error, "error", None), "code", None) or "")
