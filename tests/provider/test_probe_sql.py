"""The SQL ping: what databases say to a stranger, by their protocols' bytes and by real ones."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from dr.provider.health_check import HealthCheck
from dr.provider.probe import Answer, heard
from dr.provider.probe_sql import ask_sql, mariadb, postgresql
from dr.provider.resource import NotReady
from tests.provider import databases
from tests.provider.worlds import SUBSCRIPTION, Surroundings


def refusal(state: str, said: str) -> bytes:
    body = f"SFATAL\0VFATAL\0C{state}\0M{said}\0Fpostmaster.c\0\0".encode()
    return b"E" + (len(body) + 4).to_bytes(4, "big") + body


def packet(body: bytes) -> bytes:
    return len(body).to_bytes(3, "little") + b"\0" + body


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0", Answer(True, "it asks who is there")),
        (refusal("28000", "no pg_hba.conf entry"), Answer(True, "it refuses strangers")),
        (refusal("3D000", "no such database"), Answer(True, "it refuses strangers")),
        (
            refusal("57P03", "the database system is starting up"),
            Answer(False, "the database system is starting up (57P03)"),
        ),
        (refusal("53300", "too many\x1b clients"), Answer(False, "too many� clients (53300)")),
        (b"SSH-2.0-OpenSSH_9.2", Answer(False, "it is no PostgreSQL")),
        (b"E\xff\xff\xff\xff", Answer(False, "it is no PostgreSQL")),
    ],
)
def test_what_a_postgresql_says(said: bytes, answer: Answer) -> None:
    assert postgresql(said) == answer
    assert postgresql(b"") is None


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        (packet(b"\x0a10.11.19-MariaDB\0\1\0\0\0salt"), Answer(True, "it is 10.11.19-MariaDB")),
        (packet(b"\xff\x6a\x04Host '::1' is not allowed to connect"), Answer(True, "it refuses strangers")),
        (packet(b"\xff\x10\x04Too many connections"), Answer(False, "Too many connections (1040)")),
        (b"SSH-2.0-OpenSSH_9.2", Answer(False, "it is no MariaDB")),
    ],
)
def test_what_a_mariadb_says(said: bytes, answer: Answer) -> None:
    assert mariadb(said) == answer
    assert mariadb(said[:4]) is None


@settings(deadline=None)
@given(some.binary(max_size=200))
def test_whatever_is_said_is_an_answer_or_the_beginning_of_one(said: bytes) -> None:
    for read in (postgresql, mariadb):
        answer = read(said)
        assert answer is None or answer.text.isprintable()


@settings(deadline=None)
@given(some.binary(max_size=60), some.sampled_from(["28P01", "57P03"]))
def test_an_answer_does_not_depend_on_how_it_arrives(more: bytes, state: str) -> None:
    whole = refusal(state, "because") + more
    answers = {postgresql(whole[:length]) for length in range(len(whole) + 1)} - {None}
    assert answers == {postgresql(whole)}


@pytest.mark.real
@pytest.mark.parametrize("engine", ["postgresql", "mariadb"])
def test_a_real_database_is_pinged_from_its_start(engine: str, around: Surroundings) -> None:
    with getattr(databases, engine)() as port:
        around.endpoint = ("127.0.0.1", port)
        inputs = {"subscription": SUBSCRIPTION, "resourceGroup": "g", "vmName": "db1", "address": "10.20.1.10"}
        check = {"kind": "sql", "engine": engine, "port": 1, "timeout": databases.READY_SECONDS}
        outputs = HealthCheck(around.world).create({**inputs, **check}, around.session)[1]
        assert outputs["state"] == "passed"
        other = {"postgresql": "mariadb", "mariadb": "postgresql"}[engine]
        assert not heard(lambda: ask_sql(other, "127.0.0.1", port)).passed, "it is not taken for the other kind"
    assert not heard(lambda: ask_sql(engine, "127.0.0.1", port)).passed


@pytest.mark.real
def test_a_database_that_is_recovering_is_up_and_not_healthy(around: Surroundings) -> None:
    with databases.postgresql(starting=True) as port:
        for _ in databases.wait():
            answer = heard(lambda: ask_sql("postgresql", "127.0.0.1", port))
            assert not answer.passed
            if "57P03" in answer.text:
                break
        around.endpoint = ("127.0.0.1", port)
        inputs = {"subscription": SUBSCRIPTION, "resourceGroup": "g", "vmName": "db1", "address": "10.20.1.10"}
        check = {"kind": "sql", "engine": "postgresql", "port": 5432, "timeout": 0}
        with pytest.raises(NotReady, match="57P03") as caught:
            HealthCheck(around.world).create({**inputs, **check}, around.session)
    assert caught.value.outputs["state"] == "booted, not healthy"
