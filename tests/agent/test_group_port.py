"""The group's port: who is let in, and what everybody else may take; real TLS, no disks."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agent.answering import PLACES, Answering
from agent.calling import Calling
from agent.link import Tls
from agent.peers import HANDSHAKE_SECONDS, Lost, Members, call
from agent.reasons import reason
from agent.round_barrier import RoundBarrier
from agent.round_words import Said
from agent.rounds import Shared
from dr.certificates.authority import identity_uri
from dr.certificates.lifetime import holding
from tests.agent.protected import wait_for
from tests.certificates.holders import hold, site_certificates
from tests.config_server.rig import free_port

NAMES = ("db1", "shop1", "web1")


def point_of(members: Members) -> Shared:
    return Shared(members.name, "00000000000000aa", members.names)


class Network:
    """Three members without disks: `barriers` are the rounds that each was asked to take part in."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        made = site_certificates(folder)
        for name in NAMES:
            hold(made, folder / name, identity_uri("hq", "agent", name))
        hold(made, folder / "ps9", identity_uri("hq", "server", "ps9"))
        hold(made, folder / "alice", identity_uri("hq", "operator", "alice"))
        self.ports = {name: free_port() for name in NAMES}
        self.barriers: dict[str, list[RoundBarrier]] = {name: [] for name in NAMES}
        self.answering = {name: self.answer(name) for name in NAMES[1:]}

    def tls(self, name: str) -> Tls:
        return Tls(str(self.folder / "tls/ca.crt"), str(self.folder / f"{name}.crt"), str(self.folder / f"{name}.key"))

    def members(self, own: str) -> Members:
        addresses = {name: f"127.0.0.1:{port}" for name, port in self.ports.items()}
        return Members("hq", own, "shop", addresses, "db1", self.ports[own], frozenset())

    def answer(self, name: str) -> Answering:
        return Answering(self.members(name), self.tls(name), self.barriers[name].append)

    def serial(self, name: str) -> str:
        found = holding((self.folder / f"{name}.crt").read_bytes())
        assert found is not None
        return found.serial

    def says(self, caller: str, *, members: Members | None = None) -> str:
        """Return what becomes of `caller` who asks shop1 to prepare: "heard", or why not."""
        members = members or self.members("db1")
        before = len(self.barriers["shop1"])
        try:
            channel = call(members, self.tls(caller), "shop1")
            try:
                channel.say(Said("prepare", point_of(members)))
                deadline = time.monotonic() + 3
                while time.monotonic() < deadline:
                    channel.hear()
                    if len(self.barriers["shop1"]) > before:
                        return "heard"
                    time.sleep(0.02)
            finally:
                channel.close()
        except Lost as lost:
            return str(lost)
        return "nothing"

    def is_refused(self, caller: str) -> bool:
        """Tell whether the caller was cut off, in whatever words TCP and TLS tell it, and nobody was asked."""
        before = len(self.barriers["shop1"])
        return self.says(caller) not in {"heard", "nothing"} and len(self.barriers["shop1"]) == before

    def close(self) -> None:
        for each in self.answering.values():
            each.stop()


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    made = Network(tmp_path)
    yield made
    made.close()


def takes_part(barrier: RoundBarrier, outcome: list[object], read_seconds: float = 0.05) -> None:
    """Do what the cutting thread does, without a disk."""
    while barrier.may_freeze() is None:
        time.sleep(0.005)
    time.sleep(read_seconds)
    released = bool(barrier.may_freeze()) and barrier.wait("", 2.0)
    outcome.append(barrier.claim() if released else None)
    barrier.close()


def play(
    network: Network, read_seconds: Callable[[str], float] = lambda _: 0.05
) -> tuple[Calling, dict[str, list[object]]]:
    """Run a round to its end; return it, and what the cut of each member says of the group."""
    calling = Calling(network.members("db1"), network.tls("db1"), lambda: None)
    outcome: dict[str, list[object]] = {name: [] for name in NAMES}
    threads = []

    def begin(name: str) -> None:
        barrier = wait_for("asked", lambda: network.barriers[name] or None, 15)[0]
        takes_part(barrier, outcome[name], read_seconds(name))

    wait_for("called", lambda: calling.barrier is not None or calling.over, 15)
    if calling.barrier is not None:
        network.barriers["db1"].append(calling.barrier)
        threads = [threading.Thread(target=begin, args=(name,)) for name in NAMES]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    wait_for("the end", lambda: calling.over, 30)
    return calling, outcome


def test_a_round_over_the_network_is_shared_by_all(network: Network) -> None:
    calling, outcome = play(network)
    assert calling.reason is None
    claimed = {"name": "shop", "id": calling.shared.identity, "members": list(NAMES), "time": calling.shared.time}
    assert outcome == {name: [claimed] for name in NAMES}


@pytest.mark.real
def test_who_is_too_slow_leaves_nobody_with_a_shared_point(network: Network) -> None:
    calling, outcome = play(network, lambda name: 2.6 if name == "web1" else 0.05)
    assert calling.reason is not None
    assert outcome == {name: [None] for name in NAMES}


def test_a_member_that_is_down_is_named_and_nobody_was_asked(network: Network) -> None:
    network.answering["web1"].stop()
    time.sleep(0.5)
    calling, _ = play(network)
    assert calling.reason is not None
    assert calling.reason.code == "group-member-unreachable"
    assert calling.reason.message == f"web1 (127.0.0.1:{network.ports['web1']}): Connection refused"
    assert calling.barrier is None
    assert network.barriers["shop1"] == []


@pytest.mark.parametrize("caller", ["web1", "ps9", "alice"])
def test_only_the_coordinator_is_heard(network: Network, caller: str) -> None:
    assert network.says("db1") == "heard"
    assert network.is_refused(caller)


def test_a_revoked_coordinator_is_not_heard(network: Network) -> None:
    answering = network.answering["shop1"]
    answering.members = replace(answering.members, revoked=frozenset({network.serial("db1")}))
    assert network.is_refused("db1")


def test_who_answers_must_be_the_member_that_was_called(network: Network) -> None:
    members = network.members("db1")
    swapped = {**members.addresses, "shop1": members.addresses["web1"]}
    said = network.says("db1", members=replace(members, addresses=swapped))
    assert said == "its certificate is that of lifeboat://hq/agent/web1, not of lifeboat://hq/agent/shop1"
    revoked = replace(members, revoked=frozenset({network.serial("shop1")}))
    assert network.says("db1", members=revoked) == "its certificate is revoked"


def test_a_stranger_with_another_ca_is_not_heard(network: Network, tmp_path: Path) -> None:
    made = site_certificates(tmp_path / "other")
    hold(made, network.folder / "stranger", identity_uri("hq", "agent", "db1"))
    assert network.is_refused("stranger")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, None])
def test_older_tls_and_no_certificate_do_not_get_in(network: Network, version: ssl.TLSVersion | None) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(network.folder / "tls/ca.crt")
    if version is not None:
        context.maximum_version = version
        context.load_cert_chain(network.folder / "db1.crt", network.folder / "db1.key")
    with (
        pytest.raises(ssl.SSLError),
        socket.create_connection(("127.0.0.1", network.ports["shop1"]), 5) as plain,
        context.wrap_socket(plain) as secured,
    ):
        secured.recv(1)


def test_a_group_that_is_another_here_is_refused(network: Network) -> None:
    answering = network.answering["shop1"]
    answering.members = replace(answering.members, addresses={"db1": "x:1", "shop1": "x:2"})
    calling = Calling(network.members("db1"), network.tls("db1"), lambda: None)
    wait_for("the end", lambda: calling.over, 10)
    assert calling.reason is not None
    assert calling.reason.message == "shop1: group-void: here the group is shop with db1, shop1"


@pytest.mark.real
def test_garbage_and_idle_connections_do_not_keep_the_coordinator_out(network: Network) -> None:
    where = ("127.0.0.1", network.ports["shop1"])
    idle = [socket.create_connection(where, 5) for _ in range(3 * PLACES)]
    for number, each in enumerate(idle):
        if number % 2:
            each.sendall(b"GET / HTTP/1.0\r\n\r\n" * 100)
    assert network.says("db1") == "heard"
    for each in idle:
        each.close()


@pytest.mark.real
def test_who_never_ends_the_handshake_is_cut_off(network: Network) -> None:
    with socket.create_connection(("127.0.0.1", network.ports["shop1"]), 5) as half_open:
        half_open.settimeout(HANDSHAKE_SECONDS + 5)
        began = time.monotonic()
        assert half_open.recv(1) == b""
        assert time.monotonic() - began < HANDSHAKE_SECONDS + 2


def test_a_coordinator_that_calls_again_ends_what_is_half_open(network: Network) -> None:
    channel = call(network.members("db1"), network.tls("db1"), "shop1")
    channel.say(Said("prepare", point_of(network.members("db1"))))
    first = wait_for("asked", lambda: network.barriers["shop1"] or None, 5)[0]
    assert network.says("db1") == "heard"
    assert first.may_freeze() is False
    channel.close()


def test_a_coordinator_that_goes_is_noticed_by_who_stands_still(network: Network) -> None:
    channel = call(network.members("db1"), network.tls("db1"), "shop1")
    shared = point_of(network.members("db1"))
    channel.say(Said("prepare", shared))
    barrier = wait_for("asked", lambda: network.barriers["shop1"] or None, 5)[0]
    assert barrier.may_freeze() is None
    channel.say(Said("freeze", shared))
    wait_for("freeze", barrier.may_freeze, 5)
    threading.Timer(0.3, channel.close).start()
    began = time.monotonic()
    assert barrier.wait("", 2.0) is False
    assert time.monotonic() - began < 1.5
    assert barrier.claim() is None


def test_whoever_cannot_take_part_says_why(network: Network) -> None:
    calling = Calling(network.members("db1"), network.tls("db1"), lambda: None)
    wait_for("asked", lambda: network.barriers["shop1"], 5)
    network.barriers["shop1"][0].failed(reason("not-yet-protected", "the mode is resync"))
    wait_for("the end", lambda: calling.over, 10)
    assert calling.reason is not None
    assert calling.reason.message == "shop1: not-yet-protected: the mode is resync"


def test_a_port_that_is_taken_is_told(network: Network) -> None:
    with pytest.raises(OSError, match="in use"):
        network.answer("shop1")
