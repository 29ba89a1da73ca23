"""An sshd of our own on loopback for the peers that go by ssh: fresh keys, this user, one cipher (the fastest here)."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers.peer import Place, daemon

CIPHER = "aes128-gcm@openssh.com"
SSHD = "{sshd} -D -f {keys}/sshd_config"
SSH = "ssh -F {keys}/ssh_config target"


@contextmanager
def listening(place: Place) -> Iterator[subprocess.Popen[bytes]]:
    """Run the sshd."""
    _write_keys(place)
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it confines itself before login
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin") or "sshd"  # it wants to be called by its whole path
    with daemon(SSHD, {**place.names(), "sshd": sshd}, place.port) as process:
        yield process


def _write_keys(place: Place) -> None:
    keys = place.keys
    for name in ("host", "user"):
        if not (keys / name).exists():
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    shutil.copy(keys / "user.pub", keys / "authorized")
    host_type, host_key = (keys / "host.pub").read_text().split()[:2]
    (keys / "known").write_text(f"[127.0.0.1]:{place.port} {host_type} {host_key}\n")
    (keys / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {place.port}\nHostKey {keys}/host\nAuthorizedKeysFile {keys}/authorized\n"
        "StrictModes no\nPermitRootLogin prohibit-password\nUsePAM no\nPidFile none\nSubsystem sftp internal-sftp\n"
    )
    (keys / "ssh_config").write_text(
        f"Host target\n HostName 127.0.0.1\n Port {place.port}\n User {getpass.getuser()}\n IdentityFile {keys}/user\n"
        f" IdentitiesOnly yes\n UserKnownHostsFile {keys}/known\n Ciphers {CIPHER}\n Compression no\n"
    )
