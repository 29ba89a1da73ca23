"""Who we are in Azure: a person by whatever azure-identity finds, a process server by its certificate.

| who | login | found by |
| --- | --- | --- |
| a person with `dr` or `pulumi` | `DefaultAzureCredential` | `az login`, the environment, workload identity |
| what runs in Azure (retention) | `DefaultAzureCredential` | its managed identity |
| the site's servers | `CertificateCredential` | the three variables below |

A server on the premises has no managed identity, and a person's login ends with the person's day. So it signs in as
an application of its own, with a certificate: `AZURE_TENANT_ID`, `AZURE_CLIENT_ID` and
`AZURE_CLIENT_CERTIFICATE_PATH` (a PEM file of mode 0600 with key and certificate), which are azure-identity's names.
Nothing is asked of Azure here; the first request does that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dr.errors import PrerequisiteMissing, Refused
from dr.target.folders import LOCAL_SUBSCRIPTION

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential

TENANT, CLIENT, CERTIFICATE = "AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_CERTIFICATE_PATH"
_OPEN_TO_OTHERS = 0o077


def login(environment: Mapping[str, str] | None = None) -> TokenCredential:
    """Return a person's login, or the certificate's where the environment names one."""
    values = os.environ if environment is None else environment
    if values.get(CERTIFICATE):
        return server_login(values)
    # Half a second to import: commands that need no login must not pay for it.
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415

    return DefaultAzureCredential()


def require_server_login(subscription: str) -> None:
    """Raise, as `server_login`, unless a server of the site can sign in to the vault; target local wants no login."""
    if subscription != LOCAL_SUBSCRIPTION:
        server_login()


def server_login(environment: Mapping[str, str] | None = None, **options: Any) -> TokenCredential:
    """Return the login of one of the site's servers; `options` go to azure-identity (a transport, an authority).

    Raises `PrerequisiteMissing` when a variable is not set or the file is no key with its certificate, `Refused` when
    others can read it.
    """
    values = os.environ if environment is None else environment
    missing = [name for name in (TENANT, CLIENT, CERTIFICATE) if not values.get(name)]
    if missing:
        raise PrerequisiteMissing(
            f"a server of the site signs in by certificate, and {', '.join(missing)} is not set",
            code="login-missing",
            remedy="set tenant, client and certificate of the site's application (docs/azure.md, Login)",
        )
    path = Path(values[CERTIFICATE])
    from azure.identity import CertificateCredential  # noqa: PLC0415 - as above

    try:
        if path.stat().st_mode & _OPEN_TO_OTHERS:
            raise Refused(f"{path} can be read by others", code="key-open", remedy=f"chmod 600 {path}")
        return CertificateCredential(values[TENANT], values[CLIENT], str(path), **options)
    except OSError as error:
        raise PrerequisiteMissing(
            f"the certificate of this server cannot be read from {path}: {error.strerror}",
            code="login-missing",
            remedy=f"put key and certificate into one PEM file and set {CERTIFICATE} to its path",
        ) from error
    except ValueError as error:
        raise PrerequisiteMissing(
            f"{path} is no private key with its certificate: {error}",
            code="login-missing",
            remedy="put both into one PEM file, without a passphrase",
        ) from error
