"""A private sshd on loopback whose sessions see a server of their own: a root file system on a loop device of its own,
with users, passwords and sudo, this machine's programs in /usr, folders in the place of tracefs (its instances are the
whole machine's, and other tests use them), and the stand-in for systemctl. The machine itself stays as it is.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dr.compile.blueprint import DiskBlueprint, ProtectionBlueprint
from dr.model import JumpHost, Ssh
from tools.machines.traces import FOLDERS, look

HERE = Path(__file__).parent
PASSWORD = "Tide & 'Table' $1"  # of the users `asked` and `word`; awkward on purpose
SETUP = """set -e
mount {device} {world}
cd {world}
mkdir -p usr proc sys dev run tmp var/cache var/lib/sudo var/tmp root home mnt opt srv boot
cp -a /etc .
for d in bin sbin lib lib32 lib64 libx32; do [ -L /$d ] && cp -a /$d .; done
mount --rbind /usr usr
mount -t tmpfs -o mode=755 local usr/local
mkdir usr/local/lib
mount --rbind /dev dev
mount --rbind /sys sys
mount --bind /proc proc
mount -t tmpfs -o mode=755 run run
mkdir -p run/sshd run/systemd/system run/keys sys/fs/bpf
mount --bind {folder}/keys run/keys
mount -t tmpfs tracing sys/kernel/tracing
mount -t tmpfs debug sys/kernel/debug
mount -t tmpfs bpf sys/fs/bpf
mkdir -p sys/kernel/tracing/instances sys/kernel/tracing/events/block/block_rq_complete
printf '#!/bin/sh\\nexec /usr/bin/python3 /srv/fake_systemctl.py "$@"\\n' >srv/systemctl
cp {here}/fake_systemctl.py srv/
chmod 755 srv/systemctl
mount --bind srv/systemctl usr/bin/systemctl
mount --bind srv/systemctl usr/bin/journalctl
: >etc/fstab
for u in plain:4711 asked:4712 free:4713 word:4714; do
  echo "${{u%:*}}:x:${{u#*:}}:${{u#*:}}::/:/bin/sh" >>etc/passwd
  echo "${{u%:*}}:{hash}:19000:0:99999:7:::" >>etc/shadow
done
chmod 640 etc/shadow
printf 'asked ALL=(ALL) ALL\\nword ALL=(ALL) ALL\\nfree ALL=(ALL) NOPASSWD: ALL\\n' >etc/sudoers.d/test
chmod 440 etc/sudoers.d/test
cp {folder}/host {folder}/sshd.conf etc/ssh/
pivot_root . mnt
umount -l /mnt
exec /usr/sbin/sshd -D -e -f /etc/ssh/sshd.conf
"""
SSHD = """ListenAddress 127.0.0.1:{port}
HostKey /etc/ssh/host
AuthorizedKeysFile /run/keys/authorized
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
PidFile none
Match User word
  PasswordAuthentication yes
  PubkeyAuthentication no
Match User plain
  AllowTcpForwarding no
"""
AGENT = """import json, os, signal, sys, time
if sys.argv[1] == "cleanup":
    sys.exit(0)
with open("/run/lifeboat/starts", "a") as starts:
    starts.write("{version}\\n")
if "{version}" == "broken":
    sys.exit(3)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
while True:
    time.sleep(60)
"""


@dataclass(frozen=True)
class Server:
    """A running sshd: what to declare, and a shell in its world for checks from outside."""

    protection: ProtectionBlueprint
    folder: Path
    pid: int

    def shell(self, script: str, stdin: bytes = b"") -> str:
        command = ["nsenter", "-t", str(self.pid), "-m", "/bin/sh", "-c", script]
        return subprocess.run(command, check=True, capture_output=True, input=stdin).stdout.decode()

    def inventory(self) -> str:
        """Everything that an installation could leave; what it shares with the machine is left out."""
        folders = ("/usr/local", *(folder for folder in FOLDERS if folder not in ("/usr", "/dev/shm")))
        shared = ("listener ", "module ", "sysctl ", "cgroup ", "process ", "mount /dev/")
        return "".join(
            line for line in self.shell(look(folders)).splitlines(keepends=True) if not line.startswith(shared)
        )


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> str:
    """Make an SSH key; return its public half without the comment."""
    path.unlink(missing_ok=True)
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", str(path)]
    subprocess.run(command, check=True)
    return " ".join(Path(f"{path}.pub").read_text().split()[:2])


def package(path: Path, version: str) -> Path:
    """Make a small agent: `run` stays up (version "broken" does not), `cleanup` succeeds."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", AGENT.replace("{version}", version))
    return path


def protection(folder: Path, port: int, host_key: str, device: str) -> ProtectionBlueprint:
    return ProtectionBlueprint(
        server="shop1",
        ssh=Ssh("127.0.0.1", port, "root", str(folder / "user"), None, host_key),
        disks=(DiskBlueprint("os", device, "shop1/os.vhd", "shop1/os.digests"),),
        process_servers=(f"127.0.0.1:{free_port()}",),
        configuration_server="127.0.0.1:1",
        crash_consistent_seconds=300,
        rpo_threshold_seconds=3600,
        retention_seconds=86400,
    )


def with_ssh(protection: ProtectionBlueprint, **changes: Any) -> ProtectionBlueprint:
    """Return the same protection with another way to log in."""
    return replace(protection, ssh=replace(protection.ssh, **changes))


def jump(server: Server, **changes: Any) -> JumpHost:
    """Return `server`'s sshd as a jump host."""
    ssh = server.protection.ssh
    return replace(JumpHost(ssh.address, ssh.port, "asked", ssh.key_file, None, ssh.host_key), **changes)


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """Run a private sshd with a loop device as the server's disk; end and remove both."""
    image = folder / "disk.raw"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", str(image)], check=True)
    losetup = ["losetup", "--find", "--show", str(image)]
    device = subprocess.run(losetup, check=True, capture_output=True, text=True).stdout.strip()
    port, world = free_port(), folder / "world"
    world.mkdir()
    host_key, user_key = make_key(folder / "host"), make_key(folder / "user")
    keys = folder / "keys"
    keys.mkdir(mode=0o755)
    (keys / "authorized").write_text(user_key + "\n")
    (folder / "sshd.conf").write_text(SSHD.format(port=port))
    hashed = ["openssl", "passwd", "-6", "-stdin"]
    secret = subprocess.run(hashed, input=PASSWORD, check=True, capture_output=True, text=True).stdout.strip()
    script = SETUP.format(device=device, world=world, folder=folder, here=HERE, hash=secret.replace("$", "\\$"))
    with (folder / "sshd.log").open("wb") as log:
        sshd = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "/bin/sh", "-c", script], stderr=log, start_new_session=True
        )
    try:
        _wait_for(port, sshd, folder / "sshd.log")
        yield Server(protection(folder, port, host_key, device), folder, sshd.pid)
    finally:
        if sshd.poll() is None:
            _end_agent(sshd.pid)
        with suppress(ProcessLookupError):
            os.killpg(sshd.pid, signal.SIGTERM)
        sshd.wait(10)
        subprocess.run(["losetup", "-d", device], check=True)


def _wait_for(port: int, sshd: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and sshd.poll() is None:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"sshd did not start: {log.read_text()}")


def _end_agent(pid: int) -> None:
    command = "test -e /run/fake-systemd.json && systemctl stop lifeboat-agent.service"
    subprocess.run(["nsenter", "-t", str(pid), "-m", "/bin/sh", "-c", command], check=False)


@contextmanager
def cut_after(server: Server, to_server_bytes: int) -> Iterator[ProtectionBlueprint]:
    """Stand between client and server and cut every connection after `to_server_bytes` from the client."""
    listener = socket.create_server(("127.0.0.1", 0))
    target = ("127.0.0.1", server.protection.ssh.port)

    def pump(source: socket.socket, sink: socket.socket, budget: float) -> None:
        with suppress(OSError):
            while budget > 0 and (data := source.recv(int(min(budget, 65536)))):
                sink.sendall(data)
                budget -= len(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            upstream = socket.create_connection(target)
            threading.Thread(target=pump, args=(client, upstream, to_server_bytes), daemon=True).start()
            threading.Thread(target=pump, args=(upstream, client, float("inf")), daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield with_ssh(server.protection, port=listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(5)
