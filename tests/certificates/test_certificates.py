"""The CA, TLS between two of its certificates, and sealed secrets."""

import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from dr.certificates import authority, lifetime, sealed, tls
from dr.errors import Corrupt, Refused

VERIFY = ["openssl", "verify", "-CAfile", "ca", "-untrusted", "c", "c"]


def write(folder: Path, name: str, certificate: bytes, key: bytes) -> tuple[Path, Path]:
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_bytes(certificate)
    paths[1].write_bytes(key)
    return paths


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> object:
    """Connect a client to a server over a socket pair; return the peer certificate that the server saw."""
    left, right = socket.socketpair()
    seen: list[object] = []

    def serve() -> None:
        try:
            with server.wrap_socket(left, server_side=True) as connection:
                seen.append(connection.getpeercert())
                connection.recv(1)
        except OSError as error:
            seen.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(right, server_hostname="127.0.0.1") as connection:
            connection.send(b"x")
            connection.recv(1)
    except OSError:
        right.close()
    thread.join(10)
    return seen[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = authority.create("ca-hq")
    (tmp_path / "ca.crt").write_bytes(root.cert_pem)
    ca = authority.create_issuing(root, "hq", ["127.0.0.1"])
    write(
        tmp_path,
        "server",
        *authority.issue(ca, uri="lifeboat://hq/server/ps1", addresses=["127.0.0.1"], days=1),
    )
    write(tmp_path, "agent", *authority.issue(ca, uri="lifeboat://hq/agent/shop1", days=1))
    return tmp_path


def server_of(folder: Path) -> ssl.SSLContext:
    return tls.server_context(folder / "server.crt", folder / "server.key", folder / "ca.crt")


def test_two_certificates_of_one_ca_talk_and_are_named(folder: Path) -> None:
    client = tls.client_context(folder / "agent.crt", folder / "agent.key", folder / "ca.crt")
    seen = handshake(server_of(folder), client)
    assert isinstance(seen, dict)
    shown = tls.peer(seen)
    kept = lifetime.holding((folder / "agent.crt").read_bytes())
    assert kept is not None
    assert shown.identity == kept.identity == tls.Identity("hq", "agent", "shop1")
    assert (shown.serial, shown.issuer, shown.until) == (kept.serial, kept.issuer, kept.until.timestamp())


def test_another_authority_is_refused(folder: Path) -> None:
    foreign = authority.create("ca-hq")
    write(folder, "foreign", *authority.issue(foreign, uri="lifeboat://hq/agent/shop1", days=1))
    client = tls.client_context(folder / "foreign.crt", folder / "foreign.key", folder / "ca.crt")
    assert isinstance(handshake(server_of(folder), client), ssl.SSLError)


def test_no_certificate_and_old_tls_are_refused(folder: Path) -> None:
    bare = ssl.create_default_context(cafile=str(folder / "ca.crt"))
    assert isinstance(handshake(server_of(folder), bare), ssl.SSLError)
    old = tls.client_context(folder / "agent.crt", folder / "agent.key", folder / "ca.crt")
    old.minimum_version = ssl.TLSVersion.TLSv1_2
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    assert isinstance(handshake(server_of(folder), old), ssl.SSLError)


@pytest.mark.parametrize(
    ("uri", "addresses", "allowed"),
    [
        ("lifeboat://hq/agent/shop1", [], True),
        ("lifeboat://hq/server/ps1", ["127.0.0.1", "cs.hq.example"], True),
        ("lifeboat://elsewhere/agent/shop1", [], False),
        ("lifeboat://hq/server/ps1", ["10.0.0.1"], False),
        ("lifeboat://hq/server/ps1", ["cs.evil.example"], False),
    ],
)
@pytest.mark.parametrize("declared", [["127.0.0.1", "cs.hq.example"], ["127.0.0.1"]])
def test_an_issuing_authority_is_held_to_its_site_and_addresses(
    tmp_path: Path, uri: str, addresses: list[str], allowed: bool, declared: list[str]
) -> None:
    root = authority.create("ca-hq")
    issuing = authority.create_issuing(root, "hq", declared)
    (tmp_path / "ca").write_bytes(root.cert_pem)
    (tmp_path / "c").write_bytes(authority.issue(issuing, uri=uri, addresses=addresses, days=1)[0])
    said = subprocess.run(VERIFY, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (said.returncode == 0) == (allowed and set(addresses) <= set(declared)), said.stderr


def test_an_issuing_authority_makes_no_further_authority(tmp_path: Path) -> None:
    root = authority.create("ca-hq")
    issuing = authority.create_issuing(root, "hq", ["127.0.0.1"])
    below = authority.create_issuing(issuing, "hq", ["127.0.0.1"])
    (tmp_path / "ca").write_bytes(root.cert_pem)
    leaf = authority.issue(below, uri="lifeboat://hq/agent/shop1", days=1)[0]
    (tmp_path / "c").write_bytes(leaf + issuing.cert_pem)
    said = subprocess.run(VERIFY, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "path length constraint exceeded" in said.stderr


def test_a_request_made_by_openssl_is_signed_for_who_we_say(tmp_path: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "k",
         "-subj", "/CN=root", "-addext", "subjectAltName=URI:lifeboat://hq/operator/evil", "-out", "csr"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    ca = authority.create("ca-hq")
    key = authority.requested_key((tmp_path / "csr").read_bytes())
    pem = authority.sign_key(ca, key, uri="lifeboat://hq/agent/shop1", days=1)
    (tmp_path / "c").write_bytes(pem)
    text = subprocess.run(
        ["openssl", "x509", "-in", "c", "-noout", "-text"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "lifeboat://hq/agent/shop1" in text
    assert "evil" not in text


def test_a_broken_request_is_refused() -> None:
    with pytest.raises(Refused, match="cannot be read"):
        authority.requested_key(b"nonsense")


def test_sealed_secrets_open_only_with_their_passphrase() -> None:
    blob = sealed.seal(b"the key", "correct horse")
    assert b"the key" not in blob
    assert sealed.unseal(blob, "correct horse") == b"the key"
    with pytest.raises(Refused, match="does not open"):
        sealed.unseal(blob, "wrong horse")
    for place in range(len(blob)):
        changed = blob[:place] + bytes([blob[place] ^ 1]) + blob[place + 1 :]
        if place in (5, 20, 22, 40, len(blob) - 1):
            with pytest.raises(Refused):
                sealed.unseal(changed, "correct horse")
    with pytest.raises(Corrupt):
        sealed.unseal(blob[:20], "correct horse")


def test_the_authority_key_is_not_in_its_repr() -> None:
    ca = authority.create("ca")
    assert "PRIVATE" not in repr(ca)
