"""Connections to a real sshd: who is believed, what each failure is called, and that every wait ends."""

from __future__ import annotations

import os
import socket
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from dr.certificates.site import SiteCertificates
from dr.errors import LifeboatError, PrerequisiteMissing, Refused, Unreachable
from dr.push.connection import connect
from dr.push.credentials import Secrets
from dr.push.install import inspect, remove
from tests.push.rig import Server, cut_after, free_port, make_key, with_ssh
from tests.push.samples import PROTECTION


@pytest.mark.real
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_keys_of_all_three_kinds_open_the_door(server: Server, tmp_path: Path, kind: str) -> None:
    public = make_key(tmp_path / "key", kind)
    with (server.folder / "keys" / "authorized").open("a") as authorized:
        authorized.write(public + "\n")
    declared = with_ssh(server.protection, key_file=None, key_env="SHOP_KEY")
    with connect(declared, secrets=Secrets({"SHOP_KEY": str(tmp_path / "key")})) as connection:
        assert connection.run("id -u").text == "0\n"
        assert not connection.uses_sudo


@pytest.mark.real
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa"])
def test_another_host_key_is_refused_with_both_fingerprints(server: Server, tmp_path: Path, kind: str) -> None:
    other = make_key(tmp_path / "other", kind)
    with pytest.raises(Refused) as caught, connect(with_ssh(server.protection, host_key=other)):
        pass
    assert caught.value.code == "host-key-mismatch"
    assert caught.value.message.count("SHA256:") == 2
    assert "console" in caught.value.remedy


@pytest.mark.real
def test_a_key_the_server_does_not_know_is_refused(server: Server, tmp_path: Path) -> None:
    make_key(tmp_path / "unknown")
    with (
        pytest.raises(Refused) as caught,
        connect(with_ssh(server.protection, key_file=str(tmp_path / "unknown"))),
    ):
        pass
    assert caught.value.code == "ssh-key-refused"
    assert "authorized_keys" in caught.value.remedy


@pytest.mark.real
def test_nobody_listens(server: Server) -> None:
    with pytest.raises(Unreachable, match="refused"), connect(with_ssh(server.protection, port=free_port())):
        pass
    with pytest.raises(Unreachable, match="resolve"), connect(with_ssh(server.protection, address="no.invalid")):
        pass


@pytest.mark.real
def test_a_listener_that_is_not_ssh_ends_the_wait(server: Server) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        declared = with_ssh(server.protection, port=listener.getsockname()[1])
        started = time.monotonic()
        with pytest.raises(Unreachable), connect(declared, seconds=0.5):
            pass
        assert time.monotonic() - started < 5


@pytest.mark.real
def test_a_command_that_hangs_ends_at_its_deadline(server: Server) -> None:
    with connect(server.protection) as connection:
        with pytest.raises(Unreachable, match="no answer in time"):
            connection.run("sleep 30", seconds=0.3)
        assert connection.run("echo alive").text == "alive\n"


@pytest.mark.real
def test_large_input_and_awkward_values_arrive(server: Server) -> None:
    data = os.urandom(5 << 20)
    with connect(server.protection) as connection:
        assert connection.run("wc -c", stdin=data).text.strip() == str(len(data))
        assert connection.run("exit 7", stdin=data).code == 7  # reads nothing of it
        assert connection.run("""printf '%s' "a'b\\"c\\$d" """).text == "a'b\"c$d"
        with pytest.raises(Refused, match="larger"):
            connection.run("head -c 3000000 /dev/zero")


@pytest.mark.real
def test_a_user_without_root_is_told_so(server: Server, certificates: SiteCertificates) -> None:
    declared = with_ssh(server.protection, user="plain")
    with connect(declared) as connection:
        assert connection.privilege_complaint
    for call in (partial(inspect, certificates=certificates), remove):
        with pytest.raises(Refused) as caught:
            call(declared)
        assert caught.value.code == "no-root"


@pytest.mark.real
def test_a_cut_at_any_moment_is_unreachable_and_never_anything_else(
    server: Server, certificates: SiteCertificates
) -> None:
    for to_server_bytes in (0, 10, 500, 1500, 2500, 3500):
        with cut_after(server, to_server_bytes) as declared, pytest.raises(LifeboatError) as caught:
            inspect(declared, certificates=certificates)
        assert isinstance(caught.value, Unreachable), caught.value


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda path: None, "ssh-key-missing"),
        (lambda path: path.write_text("nonsense"), "ssh-key-invalid"),
        (lambda path: path.write_bytes(b""), "ssh-key-invalid"),
        (lambda path: path.mkdir(), "ssh-key-missing"),
        (lambda path: make_key(path, passphrase="a passphrase"), "ssh-key-encrypted"),
    ],
)
def test_unusable_key_files_have_names(tmp_path: Path, make: object, code: str) -> None:
    make(tmp_path / "key")  # type: ignore[operator]  # parametrize loses the type
    declared = with_ssh(PROTECTION, key_file=str(tmp_path / "key"))
    with pytest.raises(PrerequisiteMissing) as caught, connect(declared):
        pass
    assert caught.value.code == code
    assert str(tmp_path / "key") in caught.value.message


@pytest.mark.parametrize("declared", ["", "ssh-ed25519", "ssh-ed25519 AAAA", "ssh-dss AAAA", "x y z", "ssh-rsa ***"])
def test_a_declared_host_key_that_is_none(tmp_path: Path, declared: str) -> None:
    make_key(tmp_path / "key")
    protection = with_ssh(PROTECTION, key_file=str(tmp_path / "key"), host_key=declared)
    with pytest.raises(Refused) as caught, connect(protection):
        pass
    assert caught.value.code == "host-key-invalid"
