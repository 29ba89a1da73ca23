"""An action elsewhere: the context as the JSON body of a POST.

Until the request is on its way a failure is one; after it, no answer means that nobody can tell what was done. Each
attempt carries the same `Idempotency-Key`. Redirects are not followed: whoever answers them would get the body.
"""

from __future__ import annotations

import http.client
import ssl
import time
from collections.abc import Callable
from contextlib import closing
from urllib.parse import SplitResult, urlsplit

from dr.errors import PrerequisiteMissing
from dr.failover.steps.output import Output, hidden, last_line
from dr.failover.steps.performing import Act, Outcome
from dr.failover.steps.records import State

MAX_BODY_BYTES = 1 << 20


def webhook(
    address: str, context: Callable[[int], bytes], idempotency: str, timeout_seconds: float, *, secret: bool = False
) -> Act:
    """Return the action. `secret`: the address may be in no message. Raises `PrerequisiteMissing` when it is none."""
    url = _split(address)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    secrets = (address, path if len(path) > 1 else "", url.query) if secret else ()
    headers = {"Content-Type": "application/json", "User-Agent": "lifeboat", "Idempotency-Key": idempotency}

    def act(number: int) -> Outcome:
        deadline = time.monotonic() + timeout_seconds
        with closing(_connection(url, timeout_seconds)) as connection:
            try:
                connection.connect()
            except OSError as error:
                return Outcome(State.FAILED, f"it cannot be reached: {hidden(_reason(error), secrets)}")
            try:
                connection.request("POST", path, context(number), {**headers, "Connection": "close"})
                response = connection.getresponse()
                output = _body(connection, response, deadline)
            except (OSError, http.client.HTTPException) as error:
                said = f"it was called and did not answer: {hidden(_reason(error), secrets)}"
                return Outcome(State.UNKNOWN, said)
        text, left_out = output.kept(secrets)
        well = 200 <= response.status <= 299
        said = f"HTTP {response.status}" if well else f"HTTP {response.status}: {last_line(text)[:200]}".rstrip(": ")
        return Outcome(State.DONE if well else State.FAILED, said, None, text, left_out)

    return act


def _split(address: str) -> SplitResult:
    try:
        url = urlsplit(address)
        well = url.scheme in {"http", "https"} and bool(url.hostname) and url.username is None and url.port != 0
    except ValueError:
        well = False
    if well:
        return url
    raise PrerequisiteMissing(
        "the webhook's address is none",
        code="secret-invalid",
        remedy="put an https:// or http:// address without a user there; it is not repeated here, it may be a secret",
    )


def _connection(url: SplitResult, seconds: float) -> http.client.HTTPConnection:
    assert url.hostname is not None
    if url.scheme == "http":
        return http.client.HTTPConnection(url.hostname, url.port, timeout=seconds)
    return http.client.HTTPSConnection(url.hostname, url.port, timeout=seconds, context=ssl.create_default_context())


def _body(connection: http.client.HTTPConnection, response: http.client.HTTPResponse, deadline: float) -> Output:
    """Read the answer's body; the status counts, so one that is too long or too slow is left unread."""
    output = Output()
    while output.total_bytes < MAX_BODY_BYTES and time.monotonic() < deadline:
        part = response.read1(1 << 16)
        if not part:
            break
        output.feed(part)
    return output


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return type(error).__name__
