"""`dr serve` and a process server on a machine of its own: what is revoked by hand counts within a look, everywhere."""

from __future__ import annotations

import asyncio
import http.client
import http.server
import json
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dr.certificates import authority
from dr.certificates.lifetime import holding
from dr.certificates.site import SiteCertificates
from dr.certificates.tls import client_context, server_context
from dr.cli.agent import agent as agent_command
from dr.cli.revoke import revoke as revoke_command
from dr.config_server import afar
from dr.config_server.keeping import FarKeeper
from dr.config_server.settings import Address
from dr.config_server.site import Roles, SiteServers
from dr.errors import NotFound, Unreachable
from dr.target.folders import Folders
from tests.certificates.holders import hold, peer_of
from tests.config_server.rig import Caller, build_site, free_port

ASK = b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n"


@contextmanager
def serving(root: Path, *, alone: bool = False, state: str = "serving") -> Iterator[None]:
    """Run what `dr serve` runs, in a thread, up to a state; the store is away, which is nobody's business here."""
    roles = Roles(configuration_server=not alone)
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=lambda: loop.run_until_complete(SiteServers(Folders(root), roles).run(stop)))
    thread.start()
    try:
        until(lambda: said(root).get("state") == state)
        yield
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(30)
        loop.close()


def said(root: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads((root / "site/serve.json").read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return document


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "local"
    build_site(folder / "site")
    monkeypatch.setenv("LIFEBOAT_LOCAL", str(folder))
    return folder


def port(root: Path, server: str) -> int:
    return int(json.loads((root / "site/config.json").read_text())[server]["port"])


def connected(root: Path, stem: str, at: int) -> ssl.SSLSocket:
    site = root / "site"
    context = client_context(site / f"{stem}.crt", site / f"{stem}.key", site / "tls/ca.crt")
    return context.wrap_socket(socket.create_connection(("127.0.0.1", at), 10), server_hostname="127.0.0.1")


def is_cut(connection: ssl.SSLSocket) -> bool:
    """Tell whether the other side ends the connection within seconds, in whatever way."""
    connection.settimeout(5)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def locked_out(caller: Caller) -> bool:
    try:
        return caller.code("GET", "/v1/nothing") == (403, "certificate-revoked")
    except (OSError, http.client.HTTPException):
        return False  # it was cut in the middle of the question


def run(*arguments: str) -> str:
    done = CliRunner().invoke(revoke_command, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_dr_revoke_ends_what_is_open_and_lets_nobody_in_again(root: Path) -> None:
    with serving(root):
        ports = [port(root, name) for name in ("configuration_server", "process_server")]
        open_ones = [connected(root, "agents/shop1", each) for each in ports]
        for each in open_ones:
            each.sendall(ASK)
            assert b" 404 " in each.recv(4096)
        held = holding((root / "site/agents/shop1.crt").read_bytes())
        assert held is not None
        started = time.monotonic()
        assert held.serial in run(f"{held.serial:0>40}".upper(), "--reason", "stolen")
        for each in open_ones:
            assert is_cut(each)
            each.close()
        assert time.monotonic() - started < 5
        for at in ports:
            caller = Caller(root / "site", "agents/shop1", at)
            assert caller.code("GET", "/v1/nothing") == (403, "certificate-revoked")
            assert Caller(root / "site", "agents/db1", at).code("GET", "/v1/nothing") == (404, "not-found")


def test_dr_revoke_json_and_a_slip(root: Path) -> None:
    SiteCertificates(root / "site").token("db1")
    document = json.loads(run("db1", "--json"))
    assert [(each["role"], each["name"]) for each in document["revoked"]] == [("enrolment", "db1")]
    with pytest.raises(NotFound):
        CliRunner().invoke(revoke_command, ["db9"], catch_exceptions=False)


def test_dr_agent_token_gives_one_to_a_pipe_or_a_file_that_only_we_read(root: Path, tmp_path: Path) -> None:
    piped = CliRunner().invoke(agent_command, ["token", "shop1"], catch_exceptions=False)
    assert peer_of(piped.output.encode()).identity.role == "enrolment"
    path = tmp_path / "token.pem"
    filed = CliRunner().invoke(agent_command, ["token", "shop1", "--output", str(path), "--json"])
    assert json.loads(filed.output) == {"file": str(path), "server": "shop1"}
    assert path.stat().st_mode & 0o777 == 0o600
    assert "PRIVATE" not in filed.output
    with pytest.raises(NotFound, match="no server"):
        CliRunner().invoke(agent_command, ["token", "shop9"], catch_exceptions=False)
    assert CliRunner().invoke(agent_command, ["token", "shop1", "--json"]).exit_code == 2


def test_the_sites_own_certificates_are_renewed_while_it_serves(root: Path) -> None:
    site = root / "site"
    issuing = SiteCertificates(site).issuing().authority
    for stem, uri in (("tls/server", "lifeboat://hq/server/ps1"), ("operator/operator", "lifeboat://hq/operator/site")):
        addresses = ["127.0.0.1"] if "server" in uri else []
        old, old_key = authority.issue(
            issuing, uri=uri, addresses=addresses, days=7, now=datetime.now(UTC) - timedelta(days=8)
        )
        (site / f"{stem}.crt").write_bytes(old)
        (site / f"{stem}.key").write_bytes(old_key)
    with serving(root):
        status = Caller(site, "operator/operator", port(root, "configuration_server"))
        until(lambda: SiteCertificates(site).renew() == [])
        assert status("GET", "/v1/status")[0] == 200, "both had ended a day ago"


def serial_of(path: Path) -> str:
    held = holding(path.read_bytes())
    assert held is not None
    return held.serial


def far_machine(root: Path, folder: Path) -> Path:
    """Make what a process server on a machine of its own has: configuration, the root's certificate, and its own."""
    site = folder / "site"
    (site / "tls").mkdir(parents=True)
    shutil.copy(root / "site/tls/ca.crt", site / "tls/ca.crt")
    hold(SiteCertificates(root / "site"), site / "tls/server", "lifeboat://hq/server/ps2")
    config = json.loads((root / "site/config.json").read_text())
    config["configuration_server"]["host"] = "127.0.0.1"
    declared = {**config, "process_servers": ["ps1", "ps2"]}
    (root / "site/config.json").write_text(json.dumps(declared))
    config["process_server"] = {"name": "ps2", "listen": "127.0.0.1", "port": free_port()}
    (site / "config.json").write_text(json.dumps(config))
    shutil.copytree(root / "site/agents", site / "agents")
    return folder


@pytest.mark.real
def test_a_damaged_list_is_named_and_what_cannot_be_kept_counts_all_the_same(root: Path, tmp_path: Path) -> None:
    far = far_machine(root, tmp_path / "far")
    kept, shop1 = far / "site/revoked.json", serial_of(far / "site/agents/shop1.crt")
    kept.write_text('{"version": "1", "serials": 5}')
    keeper = FarKeeper(far / "site")
    assert asyncio.run(keeper.revoked()) is None
    assert "revoked.json is not readable" in keeper.fault[0]
    with serving(root), serving(far, alone=True):
        until(lambda: '"serials": []' in kept.read_text() and said(far)["cause"] == "")
        kept.unlink()
        kept.mkdir()  # nothing can be written in its place
        run(shop1)
        caller = Caller(far / "site", "agents/shop1", port(far, "process_server"))
        until(lambda: locked_out(caller))
        until(lambda: "what is revoked cannot be kept" in said(far)["cause"])


def closed(at: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", at), 1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_while_the_register_cannot_be_read_nobody_is_let_in(root: Path) -> None:
    """A start must not let in whom it does not know to be revoked; a server that runs keeps what it knew."""
    register, shop1 = root / "site/certificates.db", serial_of(root / "site/agents/shop1.crt")
    run(shop1)
    good = register.read_bytes()
    register.write_bytes(b"no register at all, whatever its name may say " * 100)
    with serving(root, state="revocations-unknown"):
        assert all(closed(port(root, name)) for name in ("configuration_server", "process_server"))
        assert "certificates.db" in said(root)["cause"] and "move the file away" in said(root)["remedy"]
        register.write_bytes(good)
        until(lambda: said(root)["state"] == "serving")
        caller = Caller(root / "site", "agents/shop1", port(root, "process_server"))
        assert caller.code("GET", "/v1/nothing") == (403, "certificate-revoked")
        register.write_bytes(b"spoilt while it serves " * 100)
        until(lambda: "certificates.db" in said(root)["cause"])
        assert said(root)["state"] == "serving"
        assert caller.code("GET", "/v1/nothing") == (403, "certificate-revoked")


@pytest.mark.real
@pytest.mark.parametrize("kept", [None, "{", '{"version": "1", "serials": 5}'])
def test_a_process_server_that_has_heard_no_list_waits_for_one(root: Path, tmp_path: Path, kept: str | None) -> None:
    far = far_machine(root, tmp_path / "far")
    if kept is not None:
        (far / "site/revoked.json").write_text(kept)
    with serving(far, alone=True, state="revocations-unknown"):
        assert closed(port(far, "process_server"))
        assert "configuration server" in said(far)["remedy"]
        until(lambda: "Connection refused" in said(far)["cause"] or "is not readable" in said(far)["cause"])
        assert "configuration server" in said(far)["remedy"]
        with serving(root):
            until(lambda: said(far)["state"] == "serving")
            assert not closed(port(far, "process_server"))
    with serving(far, alone=True):
        assert not closed(port(far, "process_server")), "what was heard is kept"


@pytest.mark.parametrize("answer", [{}, {"version": "1"}, {"version": "1", "serials": None}, {"serials": []}])
def test_an_answer_that_is_no_list_is_named(root: Path, answer: dict[str, Any]) -> None:
    class Odd(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    site = root / "site"
    with http.server.HTTPServer(("127.0.0.1", 0), Odd) as server:
        context = server_context(site / "tls/server.crt", site / "tls/server.key", site / "tls/ca.crt")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        with pytest.raises(Unreachable, match="no list of what is revoked"):
            afar.ask_revocations(site, Address("127.0.0.1", server.server_port), "", 0)
        thread.join()


@pytest.mark.real
def test_a_process_server_elsewhere_hears_it_keeps_it_and_renews_itself(root: Path, tmp_path: Path) -> None:
    far = far_machine(root, tmp_path / "far")
    with serving(root):
        old, key = authority.issue(
            SiteCertificates(root / "site").issuing().authority,
            uri="lifeboat://hq/server/ps2",
            addresses=["127.0.0.1"],
            days=7,
            now=datetime.now(UTC) - timedelta(days=4),
        )
        (far / "site/tls/server.crt").write_bytes(old)
        (far / "site/tls/server.key").write_bytes(key)
        with serving(far, alone=True):
            until(lambda: (far / "site/tls/server.crt").read_bytes() != old)
            renewed = holding((far / "site/tls/server.crt").read_bytes())
            assert renewed is not None
            assert (renewed.identity.name, sorted(renewed.addresses)) == ("ps2", ["127.0.0.1"])
            caller = Caller(far / "site", "agents/shop1", port(far, "process_server"))
            assert caller.code("GET", "/v1/nothing") == (404, "not-found")
            held = holding((far / "site/agents/shop1.crt").read_bytes())
            assert held is not None
            started = time.monotonic()
            run(held.serial)
            until(lambda: locked_out(caller))
            assert time.monotonic() - started < 5
    with serving(far, alone=True):  # and nobody else answers now
        assert caller.code("GET", "/v1/nothing") == (403, "certificate-revoked")
        until(lambda: "what is revoked is not heard" in said(far)["cause"])
        assert said(far)["state"] == "serving"
