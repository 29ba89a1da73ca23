"""What a failure of Azure's SDK means, whichever service it was asked of; the words are for those who asked.

A shared access signature is a secret and travels in addresses: none is part of what is said here.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

_BUSY = {429, 503}


class Meaning(Enum):
    """What to do about it differs between these, and between no others."""

    SILENT = auto()  # no answer, or one that says nothing: whether it was done is not known
    NO_LOGIN = auto()
    FORBIDDEN = auto()  # the login is known and may not
    NO_SUBSCRIPTION = auto()  # this login sees none of that id: nothing is known of what lies in it
    MISSING = auto()
    CONFLICT = auto()  # with what is there, or with a condition of the request
    OUT_OF_RANGE = auto()
    UNREGISTERED = auto()  # the subscription, for a provider
    OTHER = auto()


def meaning(error: AzureError) -> Meaning:
    """Return what a failure means."""
    status, code = status_of(error), code_of(error)
    if isinstance(error, ServiceRequestError | ServiceResponseError) or status >= 500 or status == 429:
        return Meaning.SILENT
    if status == 403:
        return Meaning.FORBIDDEN
    if isinstance(error, ClientAuthenticationError) or status == 401:
        return Meaning.NO_LOGIN
    if code in _BY_CODE:
        return _BY_CODE[code]
    return _BY_STATUS.get(status, Meaning.OTHER)


def nothing_was_done(error: AzureError) -> bool:
    """Tell whether the service itself said that it is too busy, so that the same request may be sent again."""
    return status_of(error) in _BUSY


def status_of(error: AzureError) -> int:
    """Return the HTTP status, 0 when there was no answer."""
    return (error.status_code or 0) if isinstance(error, HttpResponseError) else 0


def code_of(error: AzureError) -> str:
    """Return the service's own code, "" where it gave none: Resource Manager's and Key Vault's, or the storage's."""
    code = getattr(error, "error_code", None) or getattr(getattr(error, "error", None), "code", None)
    return str(getattr(code, "value", code) or "")


def words_of(error: AzureError) -> str:
    """Return the first line of what was said."""
    said = str(error.message).splitlines() or str(error).splitlines()
    return re.sub(r"\bsig=[^&\s'\")]+", "sig=hidden", said[0] if said else type(error).__name__)


_BY_CODE = {
    "MissingSubscriptionRegistration": Meaning.UNREGISTERED,
    "SubscriptionNotFound": Meaning.NO_SUBSCRIPTION,
}
_BY_STATUS = {
    404: Meaning.MISSING,
    409: Meaning.CONFLICT,
    412: Meaning.CONFLICT,
    416: Meaning.OUT_OF_RANGE,
}
