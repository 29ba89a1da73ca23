"""An action on a recovered server: a real sshd."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from dr.errors import NotFound
from dr.failover.steps.command import command
from dr.failover.steps.context import to_bytes
from dr.failover.steps.performing import Outcome
from dr.failover.steps.records import State
from dr.model import SecretReference
from dr.push.credentials import Secrets
from tests.failover.steps.test_output_and_context import CONTEXT
from tests.push.rig import PASSWORD, Server, cut_after, free_port, running_server

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def run(server: Server, *words: str, port: int | None = None, seconds: int = 20, **changes: Any) -> Outcome:
    ssh = replace(server.protection.ssh, address="10.20.1.10", port=22, **changes)
    where = ("127.0.0.1", port or server.protection.ssh.port)
    secrets = Secrets({"WORD": PASSWORD})
    return command("shop1", ssh, words, lambda number: to_bytes(CONTEXT, number), lambda: where, secrets, seconds)(2)


def test_it_runs_as_root_with_its_words_as_they_are_and_is_told_the_context(server: Server) -> None:
    by_sudo: dict[str, Any] = {"user": "word", "key_file": None, "password": SecretReference(env="WORD")}
    for login in ({}, {**by_sudo, "sudo_password": SecretReference(env="WORD")}):
        outcome = run(server, "sh", "-c", 'cat; id -u; umask; echo "$1" >&2', "sh", "it's $HOME; `x`", **login)
        told, _, rest = outcome.output.partition("\n}\n")
        assert json.loads(told + "}")["step"] == "switch-dns"
        assert rest == "0\n0022\nit's $HOME; `x`\n"
        assert (outcome.state, outcome.exit_code) == (State.DONE, 0)
        assert PASSWORD not in repr(outcome)


def test_a_failure_says_its_last_line_and_much_output_is_bounded(server: Server) -> None:
    outcome = run(server, "sh", "-c", "yes | head -c 3000000; echo 'no such unit' >&2; exit 5")
    assert (outcome.state, outcome.said, outcome.exit_code) == (State.FAILED, "exit code 5: no such unit", 5)
    assert outcome.output_left_out_bytes > 2_900_000


def test_what_takes_too_long_is_ended_there(server: Server) -> None:
    outcome = run(server, "sleep", "77", seconds=1)
    assert (outcome.state, outcome.said) == (State.FAILED, "it took longer than 1 s and was ended")
    assert server.shell("pgrep -fx 'sleep 77' || true") == ""


def test_before_the_command_is_on_its_way_a_failure_is_one(server: Server) -> None:
    nobody = run(server, "true", port=free_port())
    assert (nobody.state, "SSH is not reachable" in nobody.said) == (State.FAILED, True)
    plain = run(server, "true", user="plain")
    assert (plain.state, plain.said) == (State.FAILED, "plain cannot become root: sudo: a password is required")
    missing = run(server, "true", key_file="/nowhere/key")
    assert (missing.state, "/nowhere/key" in missing.said) == (State.FAILED, True)

    def gone() -> tuple[str, int]:
        raise NotFound('no VM "vm1" runs on this machine')

    act = command("shop1", server.protection.ssh, ["true"], lambda number: b"", gone, Secrets({}), 5)
    assert act(1) == Outcome(State.FAILED, 'no VM "vm1" runs on this machine')


def test_a_connection_that_ends_before_the_command_leaves_it_unknown(server: Server) -> None:
    """From the first byte of the command on, nobody can tell; wherever the cut is, it is never said to be done."""
    seen = set()
    for to_server_bytes in range(2000, 6000, 250):
        with cut_after(server, to_server_bytes) as declared:
            words = ("sh", "-c", "cat >/dev/null; echo done >>/run/effects; sleep 1")
            outcome = run(server, *words, port=declared.ssh.port, seconds=5)
        if outcome.state is State.DONE:  # more than it ever sends was let through
            assert server.shell("cat /run/effects").endswith("done\n")
            break
        assert outcome.state in {State.FAILED, State.UNKNOWN}
        seen.add(outcome.state)
        if outcome.state is State.UNKNOWN:
            assert outcome.said.startswith("it was begun and nobody saw its end: shop1 (127.0.0.1:")
    assert State.UNKNOWN in seen
