"""kill -9 of the agent, of the site's servers and of the storage under them, on a real server that works all the time.

The tests follow each other on one server: initial replication, deltas, a store that goes back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo import compare
from demo.protected import Status
from tests.end_to_end.estate import SERVER, SHOP_PORT, Estate, check_shop, end, one_sending, raised
from tools.machines.source import wait_for

pytestmark = [pytest.mark.vm, pytest.mark.long, pytest.mark.timeout(1500)]

WENT_BACK_ATTEMPTS = 20


@pytest.fixture(scope="module")
def estate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Estate]:
    with raised(tmp_path_factory.mktemp("kill")) as made:
        yield made


@pytest.fixture(scope="module")
def protected(estate: Estate) -> Estate:
    """The estate at the moment when its site stack is up: the initial replication has just begun."""
    estate.up("site-local")
    return estate


@pytest.fixture
def picture(tmp_path: Path) -> Iterator[Path]:
    """Where a picture of the disk may lie for one test."""
    yield tmp_path / "picture.raw"
    (tmp_path / "picture.raw").unlink(missing_ok=True)


def test_killed_in_the_initial_replication_it_goes_on_where_it_was(protected: Estate, picture: Path) -> None:
    kills = 0
    for victim in ("agent", "servers", "agent", "agent", "servers"):
        before = progress(protected)
        if before["mode"] != "initial-replication":
            break
        if victim == "agent":
            protected.kill_agent()
        else:
            protected.kill_serve()
        kills += 1
        after = protected.wait_agent() if victim == "agent" else progress(protected)
        assert after["mode"] in {"initial-replication", "delta"}
        assert after["initial_bytes_done"] >= before["initial_bytes_done"], "what was read is not read again"
        if not wait_progress(protected, after["initial_bytes_done"]):
            break
    assert kills >= 3, "the initial replication was over too soon"
    sent = protected.server.wait_for_delta()["sent_bytes"]
    assert "resync" not in protected.agent_log()

    same_as_picture(protected, picture)
    # Once, what was on its way at each kill, and what the shop wrote meanwhile.
    assert sent < 1.5 * one_sending(picture)


def test_killed_during_deltas_nothing_is_lost_and_nothing_is_resynced(protected: Estate, picture: Path) -> None:
    protected.server.wait_for_delta()
    sent = protected.server.agent()["sent_bytes"]
    for victim, seconds in (("agent", 2), ("servers", 3), ("agent", 0.5), ("agent", 4), ("servers", 1)):
        time.sleep(seconds)
        if victim == "agent":
            protected.kill_agent()
            assert protected.wait_agent()["mode"] == "delta"
        else:
            protected.kill_serve()
    protected.server.wait_for_delta()
    same_as_picture(protected, picture)
    assert "resync" not in protected.agent_log()
    assert protected.server.agent()["sent_bytes"] - sent < one_sending(picture) / 2


def test_a_store_that_went_back_is_named_and_healed(protected: Estate, picture: Path) -> None:
    protected.server.wait_for_delta()
    for _ in range(WENT_BACK_ATTEMPTS):
        if storage_forgets(protected):
            break
    else:
        pytest.fail("the storage remembered everything that it acknowledged, every time")
    wait_for("the name of what happened", lambda: names_the_state(protected), timeout_seconds=300)
    # Not the site's word: the process server names the state before the agent, whose last heartbeat still says "delta".
    wait_for("the end of the resync", lambda: resync_ended(protected), timeout_seconds=900)
    same_as_picture(protected, picture)


def progress(estate: Estate) -> Status:
    """Return the agent's own status once it knows what it has to read."""
    wait_for(
        "the beginning of the replication",
        lambda: bool((estate.agent_file() or {}).get("initial_bytes_total")),
        timeout_seconds=300,
    )
    return estate.agent_file() or {}


def wait_progress(estate: Estate, done: int) -> bool:
    """Wait until more than `done` is read; False when the initial replication ended meanwhile."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        status = estate.agent_file() or {}
        if status.get("mode") == "delta":
            return False
        if status.get("initial_bytes_done", 0) > done:
            return True
        time.sleep(0.2)
    pytest.fail(f"nothing more was read for 300 s: {estate.agent_file()}")


def same_as_picture(estate: Estate, picture: Path) -> None:
    """Have a point made and `picture` taken: the point must hold what the disk held, and the shop must be whole."""
    known = compare.shop_state("127.0.0.1", estate.source.port(SHOP_PORT))
    point = estate.server.pictured_point([picture], print)
    assert estate.differing_chunks(point, picture) == []
    estate.verify(point)
    check_shop(picture, picture.with_name("shop"), orders=known.orders)


def storage_forgets(estate: Estate) -> bool:
    """kill -9 of Azurite soon after it acknowledged something; tell whether it forgot some of that.

    What counts is what the agent was told: a change whose acknowledgement was still on its way to the site's servers
    may be forgotten, and is made again. They stand still meanwhile, so that they change nothing before our look.
    """
    serve, before = estate.serve(), told_stored(estate)
    deadline = time.monotonic() + 120
    while (acknowledged := told_stored(estate)) <= before:
        assert time.monotonic() < deadline, "nothing was stored for 120 s"
    serve.suspend()
    try:
        end(estate.azurite())
        estate.stage.dr("local", "up")
        return estate.replica_position() < acknowledged
    finally:
        serve.resume()


def told_stored(estate: Estate) -> int:
    """Return up to where the agent says that it was told `stored`."""
    return int((estate.agent_file() or {}).get("stored_sequence", 0))


def resync_ended(estate: Estate) -> bool:
    """Tell whether the agent began the resync that the store calls for, and has read everything since."""
    _, begun, after = estate.agent_log().rpartition("resync: store-went-back")
    return bool(begun) and "resync: everything has been read" in after


def names_the_state(estate: Estate) -> bool:
    server = estate.stage.dr_json("status", SERVER, codes=(0, 7))["servers"][SERVER]
    codes = {state["code"] for state in server["states"]}
    reason = ((server["agent"] or {}).get("reason") or {}).get("code")
    return "store-went-back" in codes | {reason}
