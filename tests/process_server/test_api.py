"""The process server over HTTPS: the contract, and clients that are wrong or hostile."""

from __future__ import annotations

import socket
import ssl
import struct
import time
from base64 import b64decode
from collections.abc import Iterator

import pytest

from dr.certificates.tls import client_context
from dr.chunk import digest
from tests.certificates.holders import hold
from tests.config_server.rig import Caller, RunningSite, build_site, running_site
from tests.process_server.scripted import CHUNK, CHUNKS, Disks, cut_segment

OPEN = {
    "protection_epoch": 1,
    "next_sequence": 1,
    "disks": [{"name": "os", "size_bytes": CHUNK * CHUNKS}],
    "facts": {"firmware": "bios"},
}
STREAM, SEGMENTS = "/v1/servers/shop1/stream", "/v1/servers/shop1/segments"
DIGESTS = "/v1/servers/shop1/digests/os"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    folder = tmp_path_factory.mktemp("site")
    certificates = build_site(folder)
    hold(certificates, folder / "agents/nobody", "https://hq/x")
    hold(certificates, folder / "agents/ghost", "lifeboat://hq/agent/ghost")
    build_site(folder / "other")
    with running_site(folder) as running:
        yield running


def test_the_way_of_a_segment(site: RunningSite) -> None:
    agent, disks = site.sender(), Disks()
    status, opened = agent("POST", STREAM, OPEN)
    assert status == 200
    keys = {"writer_epoch", "next_sequence", "received_sequence", "stored_sequence", "replica_sequence"}
    assert set(opened) == keys | {"store_went_back", "replica_empty"} and opened["store_went_back"] is False
    assert opened["replica_empty"] is True
    first, epoch = opened["next_sequence"], opened["writer_epoch"]
    segment = disks.segment(1, first, "os", [1, 2])
    status, answer = agent("PUT", f"{SEGMENTS}/1/{first}?writer_epoch={epoch}", segment)
    assert status == 200 and answer["received"] == first and set(answer) == {"received", "stored"}
    agent("PUT", f"{SEGMENTS}/1/{first + 1}?writer_epoch={epoch}", cut_segment(1, first + 1, 1))
    _, position = agent("GET", f"/v1/servers/shop1/position?stored_after={first}&wait=20")
    assert position["stored"] == first + 1 and position["store_went_back"] is False
    assert position["last_point"] == "shop1-1-1" and disks.differences(site.store) == []
    status, answer = agent("GET", f"{DIGESTS}?first=1&count=2&writer_epoch={epoch}&stored={first}")
    expected = digest(disks.expected["os", 1]) + digest(disks.expected["os", 2])
    assert status == 200 and b64decode(answer["entries"]) == expected
    status, report = Caller(site.folder, "operator/operator", site.settings.process_server.port)("GET", "/v1/status")
    assert status == 200 and report["servers"]["shop1"]["state"] == "writing"


@pytest.mark.parametrize(
    ("stem", "method", "path"),
    [
        ("agents/db1", "POST", STREAM),
        ("agents/db1", "PUT", f"{SEGMENTS}/1/1?writer_epoch=1"),
        ("agents/db1", "GET", "/v1/servers/shop1/position"),
        ("agents/db1", "GET", f"{DIGESTS}?first=0&count=1&writer_epoch=1&stored=0"),
        ("operator/operator", "POST", STREAM),
        ("tls/server", "PUT", f"{SEGMENTS}/1/1?writer_epoch=1"),
        ("agents/shop1", "GET", "/v1/status"),
    ],
)
def test_nobody_acts_for_another(site: RunningSite, stem: str, method: str, path: str) -> None:
    assert site.sender(stem).code(method, path, b"x" if method == "PUT" else OPEN) == (403, "refused")


def test_a_certificate_without_an_identity_is_refused(site: RunningSite) -> None:
    assert site.sender("agents/nobody").code("POST", STREAM, OPEN) == (403, "identity-missing")


def contexts(site: RunningSite) -> dict[str, ssl.SSLContext]:
    own, other = site.folder, site.folder / "other"
    none = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    none.load_verify_locations(own / "tls/ca.crt")
    old = client_context(own / "agents/shop1.crt", own / "agents/shop1.key", own / "tls/ca.crt")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2
    foreign = client_context(other / "agents/shop1.crt", other / "agents/shop1.key", own / "tls/ca.crt")
    return {"none": none, "tls 1.2": old, "foreign ca": foreign}


@pytest.mark.parametrize("which", ["none", "tls 1.2", "foreign ca"])
@pytest.mark.parametrize("server", ["configuration_server", "process_server"])
def test_no_handshake_without_our_certificate_and_tls_1_3(site: RunningSite, which: str, server: str) -> None:
    port = getattr(site.settings, server).port
    caller = Caller(site.folder, "", port, contexts(site)[which])
    with pytest.raises((ssl.SSLError, ConnectionError)):
        caller("GET", "/v1/status")


def test_bodies_and_addresses_that_are_wrong_get_the_error_body(site: RunningSite) -> None:
    agent = site.sender("agents/db1")
    base = "/v1/servers/db1"
    epoch = agent("POST", f"{base}/stream", OPEN)[1]["writer_epoch"]
    put = f"{base}/segments/1/1?writer_epoch={epoch}"
    digests = f"{base}/digests/os"
    torn = Disks().segment(1, 1, "os", [0])[:-1]
    cases: list[tuple[str, str, object, tuple[int, str]]] = [
        ("PUT", put, bytes(9 << 20), (413, "too-large")),
        ("PUT", put, b"no segment", (422, "corrupt")),
        ("GET", f"{digests}?first=0&count=4097&writer_epoch={epoch}&stored=0", b"", (400, "request-invalid")),
        ("GET", f"{digests}?first=0&count=1&writer_epoch={epoch}", b"", (400, "request-invalid")),
        ("GET", f"{digests}?first=0&count=1&writer_epoch={epoch}&stored=99", b"", (409, "not-yet-stored")),
        ("GET", f"{digests}?first=0&count=1&writer_epoch=99&stored=0", b"", (409, "writer-changed")),
        ("PUT", put, torn, (422, "corrupt")),
        ("PUT", put, Disks().segment(1, 2, "os", [0]), (409, "header-mismatch")),
        ("PUT", put, Disks().segment(2, 1, "os", [0]), (409, "header-mismatch")),
        ("PUT", put, Disks().segment(1, 1, "other", [0]), (403, "unknown-disk")),
        ("PUT", put, Disks().segment(1, 1, "os", [CHUNKS]), (403, "out-of-range")),
        ("PUT", f"{base}/segments/1/2?writer_epoch={epoch}", Disks().segment(1, 2, "os", [0]), (409, "sequence-gap")),
        ("PUT", f"{base}/segments/1/1?writer_epoch=77", Disks().segment(1, 1, "os", [0]), (409, "writer-changed")),
        ("PUT", f"{base}/segments/1/1", b"", (400, "request-invalid")),
        ("PUT", f"{base}/segments/1/-1?writer_epoch=1", b"", (400, "request-invalid")),
        ("PUT", f"{base}/segments/1/{'9' * 30}?writer_epoch=1", b"", (400, "request-invalid")),
        ("POST", f"{base}/stream", b"{", (400, "request-invalid")),
        ("POST", f"{base}/stream", b"[" * 100_000, (400, "request-invalid")),
        ("POST", f"{base}/stream", bytes(2 << 20), (413, "too-large")),
        ("POST", f"{base}/stream", OPEN | {"disks": []}, (400, "request-invalid")),
        ("POST", f"{base}/stream", OPEN | {"disks": [{"name": "../x", "size_bytes": 512}]}, (400, "request-invalid")),
        ("POST", f"{base}/stream", OPEN | {"protection_epoch": True}, (400, "request-invalid")),
        ("POST", f"{base}/stream", OPEN | {"next_sequence": "1e9"}, (400, "request-invalid")),
        ("POST", f"{base}/stream", OPEN | {"disks": [{"name": "os", "size_bytes": 512}]}, (409, "disks-changed")),
        ("GET", "/v1/nothing", None, (404, "not-found")),
        ("DELETE", f"{base}/stream", None, (405, "method-not-allowed")),
    ]
    for method, path, body, expected in cases:
        assert agent.code(method, path, body) == expected, (method, path)
    assert agent("PUT", put, Disks().segment(1, 1, "os", [0]))[0] == 200  # the stream is as it was


def test_no_other_protection_epoch_than_the_declared_one(site: RunningSite) -> None:
    """Whoever holds a copy of the certificate could fence the true server for good by one higher number."""
    agent, base = site.sender("agents/db1"), "/v1/servers/db1"
    for epoch, code in ((2, "epoch-not-declared"), ((1 << 62), "epoch-not-declared")):
        assert agent.code("POST", f"{base}/stream", OPEN | {"protection_epoch": epoch}) == (403, code)
    status, opened = agent("POST", f"{base}/stream", OPEN)
    assert status == 200
    put = f"{base}/segments/2/{opened['next_sequence']}?writer_epoch={opened['writer_epoch']}"
    segment = Disks().segment(2, opened["next_sequence"], "os", [0])
    assert agent.code("PUT", put, segment) == (403, "epoch-not-declared")
    site.declare_epoch("db1", 2)
    assert agent.code("POST", f"{base}/stream", OPEN) == (403, "fenced")
    segment = Disks().segment(1, opened["next_sequence"], "os", [0])
    assert agent.code("PUT", put.replace("/2/", "/1/", 1), segment) == (403, "fenced")
    assert agent("POST", f"{base}/stream", OPEN | {"protection_epoch": 2})[0] == 200
    site.declare_epoch("db1", 1)


def test_a_server_that_is_not_declared_is_unknown(site: RunningSite) -> None:
    answer = site.sender("agents/ghost").code("POST", "/v1/servers/ghost/stream", OPEN)
    assert answer == (404, "unknown-server")


def test_bytes_that_are_no_http_do_not_disturb(site: RunningSite) -> None:
    context = client_context(
        site.folder / "agents/shop1.crt", site.folder / "agents/shop1.key", site.folder / "tls/ca.crt"
    )
    port = site.settings.process_server.port
    for noise in (b"\0" * 100, b"GET / HTTP/9.9\r\n\r\n", b"PUT /v1 HTTP/1.1\r\nContent-Length: -5\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", port), 10) as raw, context.wrap_socket(
            raw, server_hostname="127.0.0.1"
        ) as connection:  # fmt: skip
            connection.sendall(noise)
            assert b" 400 " in connection.recv(4096)
    assert site.sender().code("GET", "/v1/nothing")[0] == 404


def test_a_caller_that_is_killed_in_the_middle_of_a_body_is_no_fault(
    site: RunningSite, caplog: pytest.LogCaptureFixture
) -> None:
    epoch = site.sender()("POST", STREAM, OPEN)[1]["writer_epoch"]
    context = client_context(
        site.folder / "agents/shop1.crt", site.folder / "agents/shop1.key", site.folder / "tls/ca.crt"
    )
    raw = socket.create_connection(("127.0.0.1", site.settings.process_server.port), 10)
    with context.wrap_socket(raw, server_hostname="127.0.0.1") as connection:
        head = f"PUT {SEGMENTS}/1/1?writer_epoch={epoch} HTTP/1.1\r\nHost: ps1\r\nContent-Length: 100000\r\n\r\n"
        connection.sendall(head.encode() + bytes(1000))
        time.sleep(0.2)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close by a reset
    time.sleep(0.2)
    assert site.sender()("POST", STREAM, OPEN)[0] == 200
    assert "fault in" not in caplog.text
