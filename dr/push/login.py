"""Log in to a server by SSH, through a jump host if one is declared: whom we believe, and who we say we are.

Rules:
- The only host key accepted is the declared one, for the server as for the jump host; known_hosts files and SSH
  agents are never used. It is compared before anything of the user's is sent.
- A key or a password, as declared, and nothing else is tried.
- Every failure of paramiko leaves here as one of `dr.errors`, and says which of the two hosts it was.
"""

from __future__ import annotations

import binascii
import logging
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import paramiko
from paramiko.pkey import UnknownKeyType
from paramiko.ssh_exception import (
    BadAuthenticationType,
    BadHostKeyException,
    IncompatiblePeer,
    NoValidConnectionsError,
)

from dr.errors import LifeboatError, Refused, Unreachable
from dr.model import JumpHost, Ssh
from dr.push.credentials import Secrets
from dr.target.references import described

CONNECT_SECONDS = 20.0
AUTHENTICATION_SECONDS = 30.0
KEEPALIVE_SECONDS = 10
KEY_TYPES = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")
FORBIDDEN = 1  # RFC 4254, 5.1: administratively prohibited
# paramiko logs what it also raises; without a handler Python would print it beside our one line.
LOG = logging.getLogger("lifeboat.ssh")
LOG.addHandler(logging.NullHandler())
LOG.propagate = False


@dataclass(frozen=True, slots=True)
class Hop:
    """One host to log in to, with what opens it. `password` is None where a key does."""

    where: str  # as messages call it
    address: str
    port: int
    user: str
    host_key: str
    key: paramiko.PKey | None = field(repr=False)
    password: str | None = field(repr=False)
    credential: str  # as messages call it: "the key", "the password in the file …"
    under: str  # where its keys stand in the declaration: "ssh", "ssh.jump"


def hops(server: str, ssh: Ssh, secrets: Secrets) -> tuple[Hop, ...]:
    """Return the hosts to log in to, in order. Raises what `Secrets` does, before anything is connected."""
    last = _server(server, ssh, secrets)
    return (last,) if ssh.jump is None else (_jump(server, ssh.jump, secrets), last)


def _server(server: str, ssh: Ssh, secrets: Secrets) -> Hop:
    where = f"{server} ({ssh.address}:{ssh.port})"
    if ssh.password is None:
        key = secrets.key(ssh.key_file, ssh.key_env, server)
        return Hop(where, ssh.address, ssh.port, ssh.user, ssh.host_key, key, None, "the key", "ssh")
    word = secrets.reveal(ssh.password, f"{server}: ssh.password")
    credential = f"the password in {described(ssh.password)}"
    return Hop(where, ssh.address, ssh.port, ssh.user, ssh.host_key, None, word, credential, "ssh")


def _jump(server: str, jump: JumpHost, secrets: Secrets) -> Hop:
    where = f"{server}: jump host {jump.address}:{jump.port}"
    key = secrets.key(jump.key_file, jump.key_env, f"{server}: ssh.jump")
    return Hop(where, jump.address, jump.port, jump.user, jump.host_key, key, None, "the key", "ssh.jump")


@contextmanager
def logged_in(way: tuple[Hop, ...], seconds: float) -> Iterator[paramiko.SSHClient]:
    """Log in to each host of `way` through the one before it; give the last one's client, close all at the end."""
    with ExitStack() as stack:
        before: paramiko.SSHClient | None = None
        for index, hop in enumerate(way):
            client = paramiko.SSHClient()
            stack.callback(client.close)
            client.set_log_channel(LOG.name)
            _pin(client, hop)
            tunnel = None if before is None else _tunnel(before, way[index - 1], hop, seconds)
            with translated(hop):
                _log_in(client, hop, tunnel, seconds)
            before = client
        assert before is not None  # a way has at least one hop
        yield before


def _tunnel(client: paramiko.SSHClient, jump: Hop, to: Hop, seconds: float) -> paramiko.Channel:
    transport = client.get_transport()
    with translated(jump):
        if transport is None or not transport.is_active():
            raise EOFError("the connection is closed")
        try:
            return transport.open_channel("direct-tcpip", (to.address, to.port), ("127.0.0.1", 0), timeout=seconds)
        except paramiko.ChannelException as error:
            if error.code == FORBIDDEN:
                raise Refused(
                    f"{jump.where} does not forward connections",
                    code="jump-forbidden",
                    remedy=f"allow it in its sshd_config: AllowTcpForwarding, and PermitOpen {to.address}:{to.port}",
                ) from error
            raise Unreachable(
                f"{jump.where} does not reach {to.address}:{to.port}: {error.text}",
                code="ssh-unreachable",
                remedy="check ssh.address and ssh.port as the jump host sees them, and the firewalls in between",
            ) from error


def _log_in(client: paramiko.SSHClient, hop: Hop, tunnel: paramiko.Channel | None, seconds: float) -> None:
    try:
        client.connect(
            hop.address,
            port=hop.port,
            username=hop.user,
            pkey=hop.key,
            password=hop.password,
            sock=tunnel,
            timeout=seconds,
            banner_timeout=seconds,
            auth_timeout=AUTHENTICATION_SECONDS,
            channel_timeout=seconds,
            allow_agent=False,
            look_for_keys=False,
        )
    except BadAuthenticationType:
        raise
    except paramiko.AuthenticationException as error:
        # paramiko says the same of a refusal and of a connection that ended while it waited for the answer.
        transport = client.get_transport()
        if transport is None or not transport.is_active() or "timeout" in str(error):
            raise unreachable(hop, "the connection ended during the login") from error
        raise
    transport = client.get_transport()
    if transport is not None:
        transport.set_keepalive(KEEPALIVE_SECONDS)


def _pin(client: paramiko.SSHClient, hop: Hop) -> None:
    fields = hop.host_key.split()
    try:
        kind, data = fields[0], binascii.a2b_base64(fields[1])
        if kind not in KEY_TYPES:
            raise ValueError(kind)
        pinned = paramiko.PKey.from_type_string(kind, data)
    except (IndexError, ValueError, binascii.Error, UnknownKeyType, paramiko.SSHException) as error:
        raise Refused(
            f"{hop.where}: the declared host key is not one",
            code="host-key-invalid",
            remedy='declare it as "TYPE BASE64", the content of /etc/ssh/ssh_host_ed25519_key.pub on that host',
        ) from error
    name = hop.address if hop.port == 22 else f"[{hop.address}]:{hop.port}"
    client.get_host_keys().add(name, kind, pinned)
    client.set_missing_host_key_policy(paramiko.RejectPolicy())


def fingerprint(key: paramiko.PKey) -> str:
    """Return a key's fingerprint as `ssh-keygen -l` prints it, with its type."""
    return f"{key.get_name()} {key.fingerprint}"


@contextmanager
def translated(hop: Hop) -> Iterator[None]:
    """Turn what paramiko and sockets raise into our errors; the order is from the special to the general."""
    try:
        yield
    except LifeboatError:
        raise
    except BadHostKeyException as error:
        raise Refused(
            f"{hop.where}: the host key is not the declared one: the host shows {fingerprint(error.key)}, "
            f"declared is {fingerprint(error.expected_key)}",
            code="host-key-mismatch",
            remedy="ask the host's console for its fingerprint (ssh-keygen -lf /etc/ssh/ssh_host_*_key.pub); only if "
            f"it is the one shown here, put the new key into {hop.under}.hostKey; else somebody stands in between",
        ) from error
    except paramiko.AuthenticationException as error:
        raise _not_accepted(hop, error) from error
    except NoValidConnectionsError as error:
        reasons = "; ".join(sorted({str(e) for e in error.errors.values()}))
        raise unreachable(hop, reasons) from error
    except socket.gaierror as error:
        raise unreachable(hop, f"its name does not resolve ({error.strerror})") from error
    except IncompatiblePeer as error:
        raise Refused(
            f"{hop.where}: no common SSH algorithm: {error}",
            code="ssh-incompatible",
            remedy="update the host's sshd; keys of Ed25519, ECDSA and RSA with SHA-2 are spoken here",
        ) from error
    except TimeoutError as error:
        raise unreachable(hop, "no answer in time") from error
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise unreachable(hop, str(error) or "the connection ended") from error


def _not_accepted(hop: Hop, error: paramiko.AuthenticationException) -> Refused:
    if isinstance(error, BadAuthenticationType):
        offered = ", ".join(error.allowed_types) or "nothing"
        way = "key" if hop.password is None else "password"
        return Refused(
            f"{hop.where}: the host takes no {way} of user {hop.user}, it offers {offered}",
            code="ssh-method-refused",
            remedy=f"declare what it offers under {hop.under} (keyFile, keyEnv, password), or allow it in sshd_config",
        )
    if hop.password is None:
        return Refused(
            f"{hop.where}: the host does not accept the key for user {hop.user}",
            code="ssh-key-refused",
            remedy=f"add its public half to ~{hop.user}/.ssh/authorized_keys there, or declare another user or key",
        )
    return Refused(
        f"{hop.where}: the host does not accept {hop.credential} for user {hop.user}",
        code="ssh-password-refused",
        remedy="correct it; for root see also PermitRootLogin in sshd_config",
    )


def unreachable(hop: Hop, reason: str) -> Unreachable:
    """Return the error for a host that does not answer."""
    return Unreachable(
        f"{hop.where}: SSH is not reachable: {reason}",
        code="ssh-unreachable",
        remedy=f"check {hop.under}.address and {hop.under}.port, the host and the firewalls in between, then run the "
        "command again",
    )
