"""What the SDK's failures mean, for the store and for the other services alike."""

from __future__ import annotations

import pytest
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ServiceRequestError,
    ServiceResponseError,
)

from dr.azure_failures import Meaning, meaning, nothing_was_done, words_of
from dr.target.azure import failure


class Answered(HttpResponseError):
    """An answer of the storage client, which puts the service's code here."""

    def __init__(self, status: int, error_code: str) -> None:
        super().__init__(message="no\nmore of it")
        self.status_code, self.error_code = status, error_code


def answered(status: int, error_code: str = "") -> HttpResponseError:
    return Answered(status, error_code)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ServiceRequestError("the line is dead"), Meaning.SILENT),
        (ServiceResponseError("half an answer"), Meaning.SILENT),
        (answered(429), Meaning.SILENT),
        (answered(500), Meaning.SILENT),
        (answered(503), Meaning.SILENT),
        (ClientAuthenticationError("nobody is logged in"), Meaning.NO_LOGIN),
        (answered(401), Meaning.NO_LOGIN),
        (answered(403), Meaning.FORBIDDEN),
        (answered(404), Meaning.MISSING),
        (answered(404, "SubscriptionNotFound"), Meaning.NO_SUBSCRIPTION),
        (answered(409), Meaning.CONFLICT),
        (answered(409, "MissingSubscriptionRegistration"), Meaning.UNREGISTERED),
        (answered(412), Meaning.CONFLICT),
        (answered(416), Meaning.OUT_OF_RANGE),
        (answered(400), Meaning.OTHER),
        (AzureError("what now"), Meaning.OTHER),
    ],
)
def test_a_failure_means_one_thing(error: AzureError, expected: Meaning) -> None:
    assert meaning(error) is expected
    told = failure(error, "the thing")
    assert told.message.startswith("the thing")
    assert "more of it" not in told.message


def test_only_the_services_own_word_lets_a_change_be_repeated() -> None:
    assert [status for status in range(400, 600) if nothing_was_done(answered(status))] == [429, 503]
    assert not nothing_was_done(ServiceResponseError("half an answer"))


def test_a_signature_is_not_repeated() -> None:
    said = words_of(ServiceRequestError("https://a.example/c/b?sv=1&sig=abc%2Bdef&se=2: no route"))
    assert "abc" not in said and "sig=hidden" in said and "no route" in said
