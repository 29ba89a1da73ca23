"""The CA, TLS between two of its certificates, and sealed secrets."""

import socket
import ssl
import subprocess
import threading
from pathlib import Path

import pytest

from dr.certificates import authority, sealed, tls
from dr.errors import Corrupt, Refused


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
    ca = authority.create("ca-hq")
    (tmp_path / "ca.crt").write_bytes(ca.cert_pem)
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
    assert tls.peer_identity(seen) == tls.Identity("hq", "agent", "shop1")


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


def test_a_request_made_by_openssl_is_signed_for_who_we_say(tmp_path: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "k",
         "-subj", "/CN=root", "-addext", "subjectAltName=URI:lifeboat://hq/operator/evil", "-out", "csr"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    ca = authority.create("ca-hq")
    pem = authority.sign_request(ca, (tmp_path / "csr").read_bytes(), uri="lifeboat://hq/agent/shop1", days=1)
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
        authority.sign_request(authority.create("ca"), b"nonsense", uri="lifeboat://hq/agent/x", days=1)


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
