"""Both real listeners against `openssl s_client`: what is let in, what is refused, and how it is told."""

from __future__ import annotations

import json
import logging
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dr.certificates import authority
from dr.certificates.lifetime import holding
from dr.certificates.site import SiteCertificates
from tests.certificates.holders import hold
from tests.config_server.rig import RunningSite, build_site, running_site
from tests.config_server.test_cuts_and_health import SCHEMA, STATUS

LISTENERS = ("configuration_server", "process_server")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    folder = tmp_path_factory.mktemp("site")
    certificates = build_site(folder)
    issuing, hour = certificates.issuing().authority, timedelta(hours=1)
    for name in ("revoked", "of-revoked-authority"):
        hold(certificates, folder / f"agents/{name}", "lifeboat://hq/agent/shop1")
    hold(certificates, folder / "agents/elsewhere", "lifeboat://elsewhere/agent/shop1")
    write(folder / "agents/expired", issuing, "shop1", now=datetime.now(UTC) - timedelta(days=8))
    write(folder / "agents/not-yet", issuing, "shop1", now=datetime.now(UTC) + 3 * hour)
    write(folder / "agents/ahead", issuing, "shop1", now=datetime.now(UTC) + 0.8 * hour)
    write(folder / "agents/foreign", authority.create("ca-hq"), "shop1")
    (folder / "agents/token.crt").write_bytes(certificates.token("shop1"))
    (folder / "agents/token.key").write_bytes((folder / "agents/token.crt").read_bytes())
    with running_site(folder) as running:
        yield running


def write(stem: Path, signer: authority.Authority, name: str, now: datetime | None = None) -> None:
    chain, key = authority.issue(signer, uri=f"lifeboat://hq/agent/{name}", days=7, now=now)
    stem.with_suffix(".crt").write_bytes(chain)
    stem.with_suffix(".key").write_bytes(key)


def s_client(site: RunningSite, listener: str, stem: str | None, *options: str, path: str = "/v1/nothing") -> str:
    """Ask for `path` with the certificate `stem`; return what openssl says of the handshake, and the answer."""
    port = getattr(site.settings, listener).port
    shown = [] if stem is None else ["-cert", f"{stem}.crt", "-cert_chain", f"{stem}.crt", "-key", f"{stem}.key"]
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", "tls/ca.crt", "-verify_return_error"]
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    done = subprocess.run(
        [*command, *shown, "-ign_eof", *options],
        cwd=site.folder,
        input=request,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.stdout + done.stderr


def await_text(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """The server may note a refusal a moment after the client saw it."""
    deadline = time.monotonic() + 5
    while text not in caplog.text:
        assert time.monotonic() < deadline, caplog.text
        time.sleep(0.01)


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_good_certificate_is_let_in_by_tls_1_3(site: RunningSite, listener: str) -> None:
    said = s_client(site, listener, "agents/shop1")
    assert "TLSv1.3" in said
    assert "Verify return code: 0 (ok)" in said
    assert "HTTP/1.1 404" in said


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_1", "-tls1"])
def test_an_older_handshake_is_refused(
    site: RunningSite, listener: str, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "dr.listener")
    said = s_client(site, listener, "agents/shop1", version, "-cipher", "ALL:@SECLEVEL=0")
    assert "HTTP/1.1" not in said
    assert "Cipher is (NONE)" in said
    await_text(caplog, "unsupported protocol")


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize(
    ("stem", "why"),
    [
        (None, "peer did not return a certificate"),
        ("agents/foreign", "unable to get local issuer certificate"),
        ("agents/expired", "certificate has expired"),
        ("agents/not-yet", "certificate is not yet valid"),
        ("agents/elsewhere", "permitted subtree violation"),
    ],
)
def test_a_certificate_that_is_not_good_ends_the_handshake(
    site: RunningSite, listener: str, stem: str | None, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "dr.listener")
    assert "HTTP/1.1" not in s_client(site, listener, stem)
    await_text(caplog, why)


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_clock_that_is_behind_by_less_than_an_hour_does_no_harm(site: RunningSite, listener: str) -> None:
    assert "HTTP/1.1 404" in s_client(site, listener, "agents/ahead")


@pytest.mark.parametrize(
    ("listener", "stem", "path"),
    [
        ("configuration_server", "agents/shop1", "/v1/status"),
        ("configuration_server", "agents/token", "/v1/status"),
        ("configuration_server", "agents/shop1", "/v1/revocations"),
        ("process_server", "agents/token", "/v1/status"),
        ("process_server", "agents/db1", "/v1/servers/shop1/position"),
        ("process_server", "operator/operator", "/v1/servers/shop1/position"),
        ("process_server", "agents/token", "/v1/servers/shop1/position"),
    ],
)
def test_a_wrong_role_is_refused(site: RunningSite, listener: str, stem: str, path: str) -> None:
    said = s_client(site, listener, stem, path=path)
    assert "HTTP/1.1 403" in said
    assert '"code": "refused"' in said


@contextmanager
def revoked(site: RunningSite, stem: str) -> Iterator[None]:
    certificates = SiteCertificates(site.folder)
    found = holding((site.folder / f"{stem}.crt").read_bytes())
    assert found is not None
    certificates.revoke(found.serial, "tried")
    site.revoke([found.serial])
    yield
    site.revoke([])


@pytest.mark.parametrize("listener", LISTENERS)
def test_a_revoked_certificate_is_refused_by_name_and_its_open_connection_is_ended(
    site: RunningSite, listener: str
) -> None:
    port = getattr(site.settings, listener).port
    shown = ["-cert", "agents/revoked.crt", "-cert_chain", "agents/revoked.crt", "-key", "agents/revoked.key"]
    waiting = subprocess.Popen(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", "tls/ca.crt", *shown, "-ign_eof", "-quiet"],
        cwd=site.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert waiting.stdin is not None
    assert waiting.stdout is not None
    waiting.stdin.write(b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n")
    waiting.stdin.flush()
    assert b" 404 " in waiting.stdout.readline()
    started = time.monotonic()
    with revoked(site, "agents/revoked"):
        waiting.communicate(timeout=5)
        assert time.monotonic() - started < 5
        said = s_client(site, listener, "agents/revoked")
        assert "HTTP/1.1 403" in said
        assert '"code": "certificate-revoked"' in said
        assert "Connection: close" in said
        assert "HTTP/1.1 404" in s_client(site, listener, "agents/shop1"), "others are let in"


def test_all_that_a_revoked_authority_signed_is_refused(site: RunningSite) -> None:
    serial = SiteCertificates(site.folder).issuing().serial
    site.revoke([serial])
    try:
        for listener in LISTENERS:
            assert "certificate-revoked" in s_client(site, listener, "agents/of-revoked-authority")
    finally:
        site.revoke([])


@pytest.mark.thorough
def test_a_certificate_that_ends_while_its_connection_is_open_is_refused_by_name(site: RunningSite) -> None:
    certificates = SiteCertificates(site.folder)
    hold(certificates, site.folder / "agents/short", "lifeboat://hq/agent/shop1", days=2 / 86400)
    port = site.settings.configuration_server.port
    shown = ["-cert", "agents/short.crt", "-cert_chain", "agents/short.crt", "-key", "agents/short.key"]
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", "tls/ca.crt", *shown]
    ask = "GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n"
    slow = subprocess.run(
        ["sh", "-c", f"(printf '{ask}'; sleep 2.5; printf '{ask}') | {' '.join(command)} -ign_eof -quiet"],
        cwd=site.folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    ).stdout
    assert "404" in slow
    assert "certificate-ended" in slow


def test_the_status_lists_who_is_locked_out_and_keeps_its_schema(site: RunningSite) -> None:
    status, document = site.operator("GET", "/v1/status")
    assert status == 200
    SCHEMA.validate(document)
    assert document["certificates"]["issuing_until"] is not None
    with revoked(site, "agents/revoked"):
        listed = site.operator("GET", "/v1/status")[1]["certificates"]["revoked"]
    assert listed[0]["reason"] == "tried"


def test_a_process_server_hears_what_is_revoked_at_once(site: RunningSite) -> None:
    server = site.holder("tls/server")
    _, first = server("GET", "/v1/revocations")
    site.revoke_soon(["ab" * 8], after_seconds=0.5)
    started = time.monotonic()
    _, second = server("GET", f"/v1/revocations?known={first['version']}&wait=20")
    assert second["serials"] == ["ab" * 8]
    assert second["version"] != first["version"]
    assert time.monotonic() - started < 5
    site.revoke([])


def test_a_token_over_https_becomes_a_certificate_once(site: RunningSite) -> None:
    token = site.holder("agents/token")
    request = subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
         "agents/fresh.key", "-subj", "/CN=operator"],
        cwd=site.folder, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert token.code("POST", "/v1/certificates", {"request": 5}) == (400, "request-invalid")
    assert token.code("POST", "/v1/certificates", {"request": "x"}) == (403, "request-invalid")
    status, answer = token("POST", "/v1/certificates", {"request": request})
    assert status == 200
    (site.folder / "agents/fresh.crt").write_text(answer["certificate"])
    assert site.holder("agents/fresh")("POST", "/v1/agents/shop1/heartbeat", STATUS)[0] == 200
    other = subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
         "/dev/null", "-subj", "/CN=x"],
        cwd=site.folder, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert token.code("POST", "/v1/certificates", {"request": other}) == (403, "token-used")
    assert token.code("POST", "/v1/agents/shop1/heartbeat", STATUS) == (403, "refused")
    assert "PRIVATE" not in json.dumps(answer)
