"""Ways into a real sshd: password, sudo with its password, jump host; and what each refusal is called."""

from __future__ import annotations

from pathlib import Path

import pytest

from dr.certificates.site import SiteCertificates
from dr.compile.blueprint import ProtectionBlueprint
from dr.errors import LifeboatError, Refused, Unreachable
from dr.model import SecretReference
from dr.push.connection import connect
from dr.push.credentials import Secrets
from dr.push.install import inspect, install, remove
from tests.push.rig import PASSWORD, Server, free_port, jump, make_key, with_ssh

pytestmark = pytest.mark.real

WORD = SecretReference(env="WORD")
SECRETS = Secrets({"WORD": PASSWORD})
WRONG = Secrets({"WORD": "not " + PASSWORD})


def refusal(declared: ProtectionBlueprint, secrets: Secrets = SECRETS) -> LifeboatError:
    with pytest.raises(LifeboatError) as caught, connect(declared, secrets=secrets):
        pass
    assert PASSWORD not in caught.value.message + caught.value.remedy
    return caught.value


def test_a_password_opens_the_door_and_sudo_takes_its_own(server: Server) -> None:
    declared = with_ssh(server.protection, user="word", key_file=None, password=WORD, sudo_password=WORD)
    with connect(declared, secrets=SECRETS) as connection:
        assert connection.uses_sudo
        assert connection.run("id -un").text == "root\n"
        assert connection.run("id -un", privileged=False).text == "word\n"
        assert connection.run("cat", stdin=b"all of it\n").text == "all of it\n"
        assert connection.run("echo out; echo said >&2; exit 7").complaint == "said"


def test_the_password_of_sudo_never_reaches_the_command(server: Server) -> None:
    """Where sudo wants none, a password sent unasked would be the command's input (and so in a file of ours)."""
    for user in ("free", "asked"):
        declared = with_ssh(server.protection, user=user, sudo_password=WORD)
        with connect(declared, secrets=SECRETS) as connection:
            seen = connection.run("cat; tr '\\0' ' ' </proc/$PPID/cmdline; cat /proc/*/cmdline; env", stdin=b"input\n")
            assert seen.text.startswith("input\n")
            assert PASSWORD not in seen.text
        assert server.shell("ls -A /run/sudo/ts 2>/dev/null || true") == "", "sudo remembers nothing of it"


def test_a_wrong_password_of_sudo_is_tried_once_and_named(server: Server) -> None:
    error = refusal(with_ssh(server.protection, user="asked", sudo_password=WORD), WRONG)
    assert isinstance(error, Refused)
    assert error.code == "sudo-password-refused"
    assert error.message == (
        f"shop1 (127.0.0.1:{server.protection.ssh.port}): sudo does not accept the password in "
        "the environment variable WORD for user asked"
    )


@pytest.mark.parametrize(
    ("user", "sudo", "said"),
    [
        ("asked", None, "sudo: a password is required"),
        ("plain", None, "sudo: a password is required"),
        ("plain", WORD, "plain is not in the sudoers file."),
    ],
)
def test_who_cannot_become_root_hears_what_sudo_says(
    server: Server, certificates: SiteCertificates, user: str, sudo: SecretReference | None, said: str
) -> None:
    declared = with_ssh(server.protection, user=user, sudo_password=sudo)
    with connect(declared, secrets=SECRETS) as connection:
        assert connection.privilege_complaint == said
    with pytest.raises(Refused) as caught:
        inspect(declared, certificates=certificates, secrets=SECRETS)
    assert (caught.value.code, said in caught.value.message) == ("no-root", True)


def test_refused_passwords_and_refused_ways_are_two_things(server: Server) -> None:
    by_word = with_ssh(server.protection, user="word", key_file=None, password=WORD)
    assert refusal(by_word, WRONG).code == "ssh-password-refused"
    assert "the password in the environment variable WORD for user word" in refusal(by_word, WRONG).message
    no_word = refusal(with_ssh(by_word, user="asked"))
    assert (no_word.code, "it offers publickey" in no_word.message) == ("ssh-method-refused", True)
    no_key = refusal(with_ssh(server.protection, user="word"))
    assert (no_key.code, "it offers password" in no_key.message) == ("ssh-method-refused", True)
    assert refusal(by_word, Secrets({})).code == "secret-missing"


def test_through_a_jump_host_that_is_known_by_its_own_key(server: Server, tmp_path: Path) -> None:
    through = with_ssh(server.protection, jump=jump(server))
    with connect(through) as connection:
        (line,) = connection.run("echo $SSH_CONNECTION").text.splitlines()
        assert line.startswith("127.0.0.1 ")
    other = make_key(tmp_path / "other")
    wrong = refusal(with_ssh(server.protection, jump=jump(server, host_key=other)))
    assert wrong.code == "host-key-mismatch"
    assert f"jump host 127.0.0.1:{server.protection.ssh.port}: the host key" in wrong.message
    assert "ssh.jump.hostKey" in wrong.remedy
    behind = refusal(with_ssh(through, host_key=other))
    assert (behind.code, "jump" in behind.message) == ("host-key-mismatch", False)


def test_a_jump_host_that_does_not_help_is_told_from_the_server(server: Server, tmp_path: Path) -> None:
    make_key(tmp_path / "unknown")
    stranger = refusal(with_ssh(server.protection, jump=jump(server, key_file=str(tmp_path / "unknown"))))
    assert (stranger.code, "jump host" in stranger.message) == ("ssh-key-refused", True)
    nobody = refusal(with_ssh(server.protection, jump=jump(server, port=free_port())))
    assert (type(nobody), "ssh.jump.port" in nobody.remedy) == (Unreachable, True)
    forbidden = refusal(with_ssh(server.protection, jump=jump(server, user="plain")))
    assert (forbidden.code, "AllowTcpForwarding" in forbidden.remedy) == ("jump-forbidden", True)
    closed = refusal(with_ssh(server.protection, port=free_port(), jump=jump(server)))
    assert type(closed) is Unreachable
    assert "does not reach 127.0.0.1:" in closed.message
    missing = refusal(with_ssh(server.protection, jump=jump(server, key_file=None, key_env="NONE")))
    assert missing.message == "shop1: ssh.jump: the environment variable NONE is not set"


def test_a_server_behind_all_of_it_is_installed_and_left_as_it_was(
    server: Server, certificates: SiteCertificates, agent: Path
) -> None:
    """Jump host, password, sudo with its password, and a port that is not 22."""
    declared = with_ssh(
        server.protection, user="word", key_file=None, password=WORD, sudo_password=WORD, jump=jump(server)
    )
    server.shell("mkdir -p /var/lib/sudo/lectured; : >/var/lib/sudo/lectured/4714")  # what sudo itself would write
    before = server.inventory()
    said: list[str] = []
    installed = install(
        declared, site="harbour", certificates=certificates, package=agent, protection_epoch=1, secrets=SECRETS,
        progress=said.append,
    )  # fmt: skip
    assert installed.problems == ()
    assert PASSWORD not in repr(installed) + "".join(said) + server.shell("grep -raF Table /etc /run /var || true")
    assert remove(declared, secrets=SECRETS)
    assert server.inventory() == before
