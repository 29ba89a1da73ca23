"""An action elsewhere: a real HTTP server that answers well, badly, late, or not at all."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from dr.errors import PrerequisiteMissing
from dr.failover.steps.context import to_bytes
from dr.failover.steps.performing import Outcome
from dr.failover.steps.records import State
from dr.failover.steps.webhook import webhook
from tests.failover.steps.test_output_and_context import CONTEXT

TOKEN = "hook-4711-secret"


@contextmanager
def desk(status: int = 200, body: bytes = b"noted", *, silent: bool = False) -> Iterator[tuple[str, list[Any]]]:
    """Serve on loopback; yield the address and what was received."""
    received: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            received.append((self.path, self.headers["Idempotency-Key"], told))
            if silent:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
            self.wfile.write(body + self.path.encode())

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dr/{TOKEN}", received
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def call(address: str, *, seconds: float = 5, secret: bool = True) -> Outcome:
    told = lambda number: to_bytes(CONTEXT, number)  # noqa: E731 - one word for it
    return webhook(address, told, CONTEXT.key.idempotency, seconds, secret=secret)(2)


def test_the_context_is_the_body_and_every_attempt_has_one_key() -> None:
    with desk() as (address, received):
        assert call(address) == Outcome(State.DONE, "HTTP 200", None, "noted[secret]")
        call(address)
    (path, key, told), again = received
    assert (path, key) == (f"/dr/{TOKEN}", CONTEXT.key.idempotency)
    assert (told["step"], told["attempt"]) == ("switch-dns", 2)
    assert again[1] == key


@pytest.mark.parametrize("status", [302, 404, 500])
def test_another_answer_is_a_failure_and_no_redirect_is_followed(status: int) -> None:
    with desk(status, b"not today\n") as (address, received):
        outcome = call(address)
    assert (outcome.state, len(received)) == (State.FAILED, 1)
    assert outcome.said.startswith(f"HTTP {status}: ")
    assert TOKEN not in repr(outcome)


def test_no_answer_after_the_call_is_unknown_and_before_it_a_failure() -> None:
    with desk(silent=True) as (address, received):
        outcome = call(address)
    assert (outcome.state, len(received)) == (State.UNKNOWN, 1)
    assert outcome.said.startswith("it was called and did not answer")
    refused = call(address)
    assert (refused.state, refused.said) == (State.FAILED, "it cannot be reached: Connection refused")
    assert TOKEN not in repr((outcome, refused))


def test_one_that_takes_the_call_and_stays_silent_ends_at_the_time_out() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        outcome = call(f"http://127.0.0.1:{listener.getsockname()[1]}/", seconds=0.3)
    assert outcome == Outcome(State.UNKNOWN, "it was called and did not answer: no answer in time")


@pytest.mark.parametrize(
    "address", ["", "desk", "ftp://desk/x", "http://u:hook-4711-secret@desk/", "http://[x/", "https:///x"]
)
def test_what_is_no_address_is_told_without_repeating_it(address: str) -> None:
    with pytest.raises(PrerequisiteMissing) as caught:
        call(address)
    assert TOKEN not in caught.value.message + caught.value.remedy
