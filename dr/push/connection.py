"""One SSH connection to one server: commands as root with a deadline.

Rules:
- A command is one shell script, quoted whole; values inside it are quoted by whoever builds it (`shlex.quote`).
- Root is the user itself, or what sudo makes of it. A password for sudo goes to its stdin, and only after sudo asked
  for it: were it sent unasked, a sudo that wants none would hand it to the command.
- Every wait has an end. Every failure of paramiko leaves here as one of `dr.errors`.
- One `Connection` belongs to one thread; connections share nothing.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import paramiko

from dr.compile.blueprint import ProtectionBlueprint
from dr.errors import Refused, RunFailed, Unreachable
from dr.model import Ssh
from dr.push.credentials import Secrets
from dr.push.login import AUTHENTICATION_SECONDS, CONNECT_SECONDS, Hop, hops, logged_in, translated
from dr.target.references import described

COMMAND_SECONDS = 180.0  # a starved server is slow, and giving up leaves half an installation
OUTPUT_LIMIT_BYTES = 1 << 20  # well below the window of 2 MiB, so that nobody waits for an unread stream
SCRIPT_HEAD = 'export LC_ALL=C PATH="/usr/sbin:/usr/bin:/sbin:/bin:$PATH"; umask 077; '
SUDO = "sudo -n -- "
# -k: no remembered password is used and none is remembered, so what we see is what is declared and nothing stays.
ASKS, BEGINS = b"[lifeboat asks for the password of sudo]", b"[lifeboat is root]"
SUDO_ASKING = f"sudo -k -S -p {shlex.quote(ASKS.decode())} -- "
MARK_BEGIN = f"printf %s {shlex.quote(BEGINS.decode())} >&2; "


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


@dataclass(frozen=True, slots=True)
class SudoPassword:
    """What sudo is answered, and the reference it came from."""

    reference: str
    secret: str = field(repr=False)


class Connection:
    """Runs commands on one server; get one from `connect`."""

    def __init__(self, client: paramiko.SSHClient, hop: Hop, sudo_password: SudoPassword | None) -> None:
        self._client = client
        self._hop = hop
        self._sudo_password = sudo_password
        self.user = hop.user
        self._prefix = ""  # how a command becomes root
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
        return self._run(self._prefix if privileged else "", script, stdin, seconds)

    def stream(self, script: str, feed: Callable[[bytes], None], *, stdin: bytes = b"", seconds: float) -> int:
        """Run `script` as root, hand on its output as it comes, however much it is, and return its exit code.

        Only stdout is unlimited: a script that may write much to stderr joins the two. Raises what `run` does.
        """
        return self._run(self._prefix, script, stdin, seconds, feed).code

    def must(self, script: str, what: str, *, stdin: bytes = b"", seconds: float = COMMAND_SECONDS) -> Answer:
        """Run `script` as root; raise `RunFailed` naming `what` when its exit code is not 0."""
        answer = self.run(script, stdin=stdin, seconds=seconds)
        if answer.code:
            raise RunFailed(
                f"{self._hop.where}: {what} failed: {answer.complaint}",
                code="push-step-failed",
                remedy="correct the cause on the server and run the same command again; it continues where it was",
            )
        return answer

    def _find_privilege(self) -> None:
        if self.run("id -u", privileged=False).text.strip() == "0":
            return
        prefix = SUDO if self._sudo_password is None else SUDO_ASKING
        answer = self._run(prefix, "true", b"", AUTHENTICATION_SECONDS)
        if answer.code:
            self.privilege_complaint = answer.complaint
        else:
            self._prefix = prefix

    def _run(
        self, prefix: str, script: str, stdin: bytes, seconds: float, feed: Callable[[bytes], None] | None = None
    ) -> Answer:
        asking = prefix == SUDO_ASKING
        command = f"{prefix}/bin/sh -c {shlex.quote((MARK_BEGIN if asking else '') + SCRIPT_HEAD + script)}"
        with translated(self._hop):
            try:
                return self._exchange(command, stdin, time.monotonic() + seconds, asking=asking, feed=feed)
            except TimeoutError as error:
                raise Unreachable(
                    f"{self._hop.where}: SSH gives no answer in time: a command was not done after {seconds:.0f} s",
                    code="ssh-timeout",
                    remedy="see whether the server is overloaded or the connection broken, then run the same command "
                    "again; it continues where it was",
                ) from error

    def _exchange(
        self, command: str, stdin: bytes, deadline: float, *, asking: bool, feed: Callable[[bytes], None] | None
    ) -> Answer:
        transport = self._client.get_transport()
        if transport is None or not transport.is_active():
            raise EOFError("the connection is closed")
        channel = transport.open_session(timeout=_left(deadline))
        try:
            channel.settimeout(_left(deadline))
            channel.exec_command(command)
            head = self._answer_sudo(channel, deadline) if asking else b""
            _send(channel, stdin, deadline)
            stdout = _drain(channel, deadline, stderr=False, feed=feed)
            stderr = head + _drain(channel, deadline, stderr=True)
            if not channel.status_event.wait(_left(deadline)):
                raise TimeoutError
            if channel.exit_status == -1:
                raise EOFError("the connection ended before the command did")
            return Answer(channel.exit_status, stdout, stderr)
        finally:
            channel.close()

    def _answer_sudo(self, channel: paramiko.Channel, deadline: float) -> bytes:
        """Give the password when sudo asks for it; return what stderr holds beyond that once the command runs."""
        assert self._sudo_password is not None
        seen, answered = b"", False
        while True:
            before, mark, after = seen.partition(BEGINS)
            if mark:
                return after
            before, mark, after = seen.partition(ASKS)
            if mark and answered:
                raise self._password_refused()
            if mark:
                answered, seen = True, after
                _deliver(channel, self._sudo_password.secret.encode() + b"\n", deadline)
                continue
            channel.settimeout(_left(deadline))
            part = channel.recv_stderr(65536)
            if not part or len(seen) > OUTPUT_LIMIT_BYTES:
                return before + after  # sudo ended without running the command; its last line says why
            seen += part

    def _password_refused(self) -> Refused:
        assert self._sudo_password is not None
        return Refused(
            f"{self._hop.where}: sudo does not accept the password in {self._sudo_password.reference} "
            f"for user {self.user}",
            code="sudo-password-refused",
            remedy="correct it; sudo asks for the user's own password, unless `rootpw` or `targetpw` is set in sudoers",
        )


def _send(channel: paramiko.Channel, stdin: bytes, deadline: float) -> None:
    if _deliver(channel, stdin, deadline):
        channel.shutdown_write()


def _deliver(channel: paramiko.Channel, content: bytes, deadline: float) -> bool:
    """Send all of `content`; False when the command ended without reading it (its exit code and stderr say why)."""
    view = memoryview(content)
    while view:
        channel.settimeout(_left(deadline))
        try:
            sent = channel.send(bytes(view[:32768]))
        except TimeoutError:
            raise
        except OSError:
            return False
        if not sent:
            return False
        view = view[sent:]
    return True


def _drain(
    channel: paramiko.Channel, deadline: float, *, stderr: bool, feed: Callable[[bytes], None] | None = None
) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        channel.settimeout(_left(deadline))
        part = channel.recv_stderr(65536) if stderr else channel.recv(65536)
        if not part:
            return b"".join(parts)
        if feed is not None:
            feed(part)
            continue
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
    protection: ProtectionBlueprint, *, secrets: Secrets | None = None, seconds: float = CONNECT_SECONDS
) -> Iterator[Connection]:
    """Open a connection to the server of `protection`, through its jump host if it has one, and close it at the end.

    Raises `Refused` (a host key, the user's key or a password is not accepted), `PrerequisiteMissing` (a key or
    password cannot be found) or `Unreachable` (after `seconds` without an answer). `secrets` defaults to the
    process's environment, without a key store.
    """
    with connect_to(protection.server, protection.ssh, secrets=secrets, seconds=seconds) as connection:
        yield connection


@contextmanager
def connect_to(
    server: str, ssh: Ssh, *, secrets: Secrets | None = None, seconds: float = CONNECT_SECONDS
) -> Iterator[Connection]:
    """Open a connection as `ssh` says; `server` is its name in messages. Raises what `connect` does."""
    found = secrets or Secrets()
    sudo_password = None
    if ssh.sudo_password is not None:
        secret = found.reveal(ssh.sudo_password, f"{server}: ssh.sudoPassword")
        sudo_password = SudoPassword(described(ssh.sudo_password), secret)
    way = hops(server, ssh, found)
    with logged_in(way, seconds) as client:
        yield Connection(client, way[-1], sudo_password)
