"""One SSH connection to one server: pinned host key, key file, commands as root with a deadline.

Rules:
- The only host key accepted is the declared one; known_hosts files, SSH agents and passwords are never used.
- A command is one shell script, quoted whole; values inside it are quoted by whoever builds it (`shlex.quote`).
- Every wait has an end. Every failure of paramiko leaves here as one of `dr.errors`.
- One `Connection` belongs to one thread; connections share nothing.
"""

from __future__ import annotations

import binascii
import logging
import os
import shlex
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import (
    BadHostKeyException,
    IncompatiblePeer,
    NoValidConnectionsError,
    PasswordRequiredException,
)

from dr.compile.blueprint import ProtectionBlueprint
from dr.errors import LifeboatError, PrerequisiteMissing, Refused, RunFailed, Unreachable

CONNECT_SECONDS = 20.0
AUTHENTICATION_SECONDS = 30.0
COMMAND_SECONDS = 60.0
KEEPALIVE_SECONDS = 10
OUTPUT_LIMIT_BYTES = 1 << 20  # well below the window of 2 MiB, so that nobody waits for an unread stream
KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
# paramiko logs what it also raises; without a handler Python would print it beside our one line.
LOG = logging.getLogger("lifeboat.ssh")
LOG.addHandler(logging.NullHandler())
LOG.propagate = False
SCRIPT_HEAD = 'export LC_ALL=C PATH="/usr/sbin:/usr/bin:/sbin:/bin:$PATH"; umask 077; '


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command left behind."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "replace")

    @property
    def complaint(self) -> str:
        """The last line of stderr (or stdout): what a person wants to read."""
        lines = (self.stderr or self.stdout).decode("utf-8", "replace").strip().splitlines()
        return lines[-1].strip() if lines else f"exit code {self.code} and no message"


class Connection:
    """Runs commands on one server; get one from `connect`."""

    def __init__(self, client: paramiko.SSHClient, where: str, user: str) -> None:
        self._client = client
        self._where = where
        self.user = user
        self._prefix = ""  # "sudo -n -- " once we know that it is needed
        self.privilege_complaint: str | None = None
        self._find_privilege()

    @property
    def uses_sudo(self) -> bool:
        """Whether commands become root by sudo."""
        return bool(self._prefix)

    def run(
        self, script: str, *, stdin: bytes = b"", seconds: float = COMMAND_SECONDS, privileged: bool = True
    ) -> Answer:
        """Run `script` under /bin/sh, as root unless told otherwise, and return its answer.

        Raises `Unreachable` when the connection ends or `seconds` have passed.
        """
        prefix = self._prefix if privileged else ""
        command = f"{prefix}/bin/sh -c {shlex.quote(SCRIPT_HEAD + script)}"
        with _translated(self._where, self.user):
            return self._exchange(command, stdin, time.monotonic() + seconds)

    def must(self, script: str, what: str, *, stdin: bytes = b"", seconds: float = COMMAND_SECONDS) -> Answer:
        """Run `script` as root; raise `RunFailed` naming `what` when its exit code is not 0."""
        answer = self.run(script, stdin=stdin, seconds=seconds)
        if answer.code:
            raise RunFailed(
                f"{self._where}: {what} failed: {answer.complaint}",
                code="push-step-failed",
                remedy="correct the cause on the server and run the same command again; it continues where it was",
            )
        return answer

    def _find_privilege(self) -> None:
        if self.run("id -u", privileged=False).text.strip() == "0":
            return
        answer = self.run("sudo -n true", privileged=False)
        if answer.code:
            self.privilege_complaint = answer.complaint
        else:
            self._prefix = "sudo -n -- "

    def _exchange(self, command: str, stdin: bytes, deadline: float) -> Answer:
        transport = self._client.get_transport()
        if transport is None or not transport.is_active():
            raise EOFError("the connection is closed")
        channel = transport.open_session(timeout=_left(deadline))
        try:
            channel.settimeout(_left(deadline))
            channel.exec_command(command)
            _send(channel, stdin, deadline)
            stdout = _drain(channel, deadline, stderr=False)
            stderr = _drain(channel, deadline, stderr=True)
            if not channel.status_event.wait(_left(deadline)):
                raise TimeoutError
            if channel.exit_status == -1:
                raise EOFError("the connection ended before the command did")
            return Answer(channel.exit_status, stdout, stderr)
        finally:
            channel.close()


def _send(channel: paramiko.Channel, stdin: bytes, deadline: float) -> None:
    view = memoryview(stdin)
    while view:
        channel.settimeout(_left(deadline))
        try:
            sent = channel.send(bytes(view[:32768]))
        except TimeoutError:
            raise
        except OSError:
            return  # the command ended without reading it all; its exit code and stderr say why
        if not sent:
            return
        view = view[sent:]
    channel.shutdown_write()


def _drain(channel: paramiko.Channel, deadline: float, *, stderr: bool) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        channel.settimeout(_left(deadline))
        part = channel.recv_stderr(65536) if stderr else channel.recv(65536)
        if not part:
            return b"".join(parts)
        size += len(part)
        if size > OUTPUT_LIMIT_BYTES:
            raise Refused("the server's answer is larger than any that is expected", code="answer-too-large")
        parts.append(part)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


@contextmanager
def connect(
    protection: ProtectionBlueprint,
    *,
    environment: Mapping[str, str] | None = None,
    seconds: float = CONNECT_SECONDS,
) -> Iterator[Connection]:
    """Open a connection to the server of `protection` and close it at the end.

    Raises `Refused` (host key or user key not accepted), `PrerequisiteMissing` (no usable key file on this
    machine) or `Unreachable` (after `seconds` without an answer). `environment` defaults to the process's.
    """
    where = f"{protection.server} ({protection.ssh_address}:{protection.ssh_port})"
    key = _user_key(protection, os.environ if environment is None else environment)
    client = paramiko.SSHClient()
    client.set_log_channel(LOG.name)
    _pin(client, protection, where)
    try:
        with _translated(where, protection.ssh_user):
            _log_in(client, protection, key, where, seconds)
        yield Connection(client, where, protection.ssh_user)
    finally:
        client.close()


def _log_in(
    client: paramiko.SSHClient, protection: ProtectionBlueprint, key: paramiko.PKey, where: str, seconds: float
) -> None:
    try:
        client.connect(
            protection.ssh_address,
            port=protection.ssh_port,
            username=protection.ssh_user,
            pkey=key,
            timeout=seconds,
            banner_timeout=seconds,
            auth_timeout=AUTHENTICATION_SECONDS,
            channel_timeout=seconds,
            allow_agent=False,
            look_for_keys=False,
        )
    except paramiko.AuthenticationException as error:
        # paramiko says the same of a refusal and of a connection that ended while it waited for the answer.
        transport = client.get_transport()
        if transport is None or not transport.is_active() or "timeout" in str(error):
            raise _unreachable(where, "the connection ended during the login") from error
        raise
    transport = client.get_transport()
    if transport is not None:
        transport.set_keepalive(KEEPALIVE_SECONDS)


def key_file(protection: ProtectionBlueprint, environment: Mapping[str, str]) -> Path:
    """Return the path of the user's key; a relative one counts from the declaration's folder.

    Raises `PrerequisiteMissing` when the declared environment variable is not set.
    """
    name = protection.ssh_key_file
    if protection.ssh_key_env is not None:
        name = environment.get(protection.ssh_key_env)
        if not name:
            raise PrerequisiteMissing(
                f"{protection.server}: the environment variable {protection.ssh_key_env} is not set",
                code="ssh-key-missing",
                remedy=f"export {protection.ssh_key_env}=/path/of/the/private/key",
            )
    path = Path(name or "").expanduser()
    if path.is_absolute():
        return path
    plans = environment.get("LIFEBOAT_PLANS")
    return (Path(plans) if plans else Path(__file__).parents[2] / "plans") / path


def _user_key(protection: ProtectionBlueprint, environment: Mapping[str, str]) -> paramiko.PKey:
    path = key_file(protection, environment)
    remedy = "name an Ed25519, ECDSA or RSA private key in OpenSSH or PEM form, readable and without a passphrase"
    try:
        return paramiko.PKey.from_path(path)
    except (PasswordRequiredException, TypeError) as error:
        message, code = f"the SSH key {path} has a passphrase", "ssh-key-encrypted"
        raise PrerequisiteMissing(f"{protection.server}: {message}", code=code, remedy=remedy) from error
    except OSError as error:
        message = f"the SSH key {path} cannot be read: {error.strerror}"
        raise PrerequisiteMissing(f"{protection.server}: {message}", code="ssh-key-missing", remedy=remedy) from error
    except (ValueError, UnsupportedAlgorithm, UnknownKeyType, paramiko.SSHException) as error:
        message = f"{path} is not a usable SSH key: {type(error).__name__}"
        raise PrerequisiteMissing(f"{protection.server}: {message}", code="ssh-key-invalid", remedy=remedy) from error


def _pin(client: paramiko.SSHClient, protection: ProtectionBlueprint, where: str) -> None:
    fields = protection.ssh_host_key.split()
    try:
        kind, data = fields[0], binascii.a2b_base64(fields[1])
        if kind not in KEY_TYPES:
            raise ValueError(kind)
        pinned = paramiko.PKey.from_type_string(kind, data)
    except (IndexError, ValueError, binascii.Error, UnknownKeyType, paramiko.SSHException) as error:
        raise Refused(
            f"{where}: the declared host key is not one",
            code="host-key-invalid",
            remedy='declare it as "TYPE BASE64", the content of /etc/ssh/ssh_host_ed25519_key.pub on the server',
        ) from error
    port = protection.ssh_port
    name = protection.ssh_address if port == 22 else f"[{protection.ssh_address}]:{port}"
    client.get_host_keys().add(name, kind, pinned)
    client.set_missing_host_key_policy(paramiko.RejectPolicy())


def fingerprint(key: paramiko.PKey) -> str:
    """Return a key's fingerprint as `ssh-keygen -l` prints it, with its type."""
    return f"{key.get_name()} {key.fingerprint}"


@contextmanager
def _translated(where: str, user: str) -> Iterator[None]:
    """Turn what paramiko and sockets raise into our errors; the order is from the special to the general."""
    try:
        yield
    except LifeboatError:
        raise
    except BadHostKeyException as error:
        raise Refused(
            f"{where}: the host key is not the declared one: the server shows {fingerprint(error.key)}, "
            f"declared is {fingerprint(error.expected_key)}",
            code="host-key-mismatch",
            remedy="ask the server's console for its fingerprint (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub); only if "
            "it is the one shown here, put the new key into ssh.hostKey; else somebody stands in between",
        ) from error
    except paramiko.AuthenticationException as error:
        raise Refused(
            f"{where}: the server does not accept the key for user {user}",
            code="ssh-key-refused",
            remedy=f"add its public half to ~{user}/.ssh/authorized_keys on the server, or declare another user or key",
        ) from error
    except NoValidConnectionsError as error:
        reasons = "; ".join(sorted({str(e) for e in error.errors.values()}))
        raise _unreachable(where, reasons) from error
    except socket.gaierror as error:
        raise _unreachable(where, f"its name does not resolve ({error.strerror})") from error
    except IncompatiblePeer as error:
        raise Refused(
            f"{where}: no common SSH algorithm: {error}",
            code="ssh-incompatible",
            remedy="update the server's sshd; keys of Ed25519, ECDSA and RSA with SHA-2 are spoken here",
        ) from error
    except TimeoutError as error:
        raise _unreachable(where, "no answer in time") from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise _unreachable(where, str(error) or "the connection ended") from error


def _unreachable(where: str, reason: str) -> Unreachable:
    return Unreachable(
        f"{where}: SSH is not reachable: {reason}",
        code="ssh-unreachable",
        remedy="check ssh.address and ssh.port, the server and the firewalls in between, then run the command again",
    )
