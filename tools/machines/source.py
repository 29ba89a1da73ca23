"""The machine that plays the protected physical server: a Debian of its own, run by QEMU.

    FOLDER/disk.raw         its disk, made by `create`; FOLDER/layer-N.qcow2 what was written after the Nth picture
    FOLDER/key, key.pub     the administrator's key (user `dradmin`)
    FOLDER/console.log      what the machine says on its serial line; FOLDER/qemu.log what QEMU says
    FOLDER/qmp              QEMU's monitor, while it runs

Rules kept here: the machine reaches this host only as 10.0.2.2, and this host reaches the machine only through
loopback ports; a picture is taken while no instruction of the machine runs, and what it shows is never written
again; after `kill`, and after the end of the thread that called `start`, no process is left; the files go with the
folder.
"""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dr.errors import PrerequisiteMissing, RunFailed, Unreachable
from tools.machines.drive import Drive, Layer, copy_layer
from tools.machines.image import ADMIN, build_instance
from tools.machines.monitor import Command, converse

HOST = "127.0.0.1"
SSH, SHOP = 22, 8080
HOST_SEEN_BY_GUEST = "10.0.2.2"
ACCELERATORS = {"tcg": "tcg,thread=multi", "kvm": "kvm"}
OVMF = Path("/usr/share/OVMF")
DEAF_SECONDS = 3.0  # shorter attempts would only add connections that a slow sshd still has to answer


@dataclass(frozen=True, slots=True)
class Identity:
    """What tells this machine from all others; a restored copy of its disk on other hardware lacks it."""

    name: str
    host_key: str  # public, "ssh-ed25519 AAAA…"
    smbios_uuid: str
    disk_serial: str

    @property
    def disk_device(self) -> str:
        """The first disk's stable name inside the machine."""
        return f"/dev/disk/by-id/virtio-{self.disk_serial}"


@dataclass(frozen=True, slots=True)
class CommandResult:
    """How a command ended inside the machine."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that QEMU starts by itself, with its initramfs and command line."""

    image: Path
    initramfs: Path
    options: str


@dataclass(slots=True)
class SourceMachine:
    """One machine; use it as a context manager, or end it with `kill`."""

    folder: Path
    identity: Identity
    drives: list[Drive]  # it boots from the first one that it can
    key_file: Path
    firmware: str = "bios"
    memory_mib: int = 512
    ports: dict[int, int] = field(default_factory=dict)
    memory: tuple[str, ...] = ()  # QEMU's arguments where the memory is a file (see `saved.py`)
    kernel: Kernel | None = None  # what it starts with from the next `start` on; None: what its boot loader finds
    _process: subprocess.Popen[bytes] | None = None

    @classmethod
    def create(cls, folder: Path, *, name: str, firmware: str = "bios") -> SourceMachine:
        """Build a new machine in `folder` (made if needed); it does not run yet."""
        folder.mkdir(parents=True, exist_ok=True)
        public = make_key(folder / "key")
        disk = folder / "disk.raw"
        built = build_instance(disk, name=name, authorized_key=public)
        identity = Identity(name, built.host_key, str(uuid.uuid4()), f"{name}-os"[:20])
        drive = Drive(identity.disk_serial, built.size_bytes, [(disk, "raw")])
        return cls(folder, identity, [drive], folder / "key", firmware)

    @classmethod
    def from_picture(cls, folder: Path, picture: Path, like: SourceMachine) -> SourceMachine:
        """Return a machine on other hardware whose disk starts as `picture` (raw, never written) shows it."""
        folder.mkdir(parents=True, exist_ok=True)
        identity = Identity(like.identity.name, like.host_key, str(uuid.uuid4()), f"copy-{uuid.uuid4().hex[:8]}")
        drive = Drive.on_top_of(picture, folder / "layer.qcow2", serial=identity.disk_serial)
        return cls(folder, identity, [drive], like.key_file, like.firmware)

    @property
    def host_key(self) -> str:
        """The public host key, known from the build and so never learnt over the network."""
        return self.identity.host_key

    @property
    def disk_bytes(self) -> int:
        """The size of all disks together."""
        return sum(drive.size_bytes for drive in self.drives)

    @property
    def console(self) -> Path:
        return self.folder / "console.log"

    @property
    def pid(self) -> int | None:
        """The process id of QEMU, or None when the machine is off."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def port(self, guest_port: int) -> int:
        """Return the loopback port of this host that leads to `guest_port` (22 or 8080) of the machine."""
        return self.ports[guest_port]

    def start(self) -> None:
        """Switch the machine on; returns when QEMU answers, long before the system inside does."""
        if self.pid is not None:
            raise RuntimeError(f"{self.identity.name} runs already")
        for _ in range(5):  # a port may be taken between its choice and QEMU's start
            self.ports = self.ports or {guest: _free_port() for guest in (SSH, SHOP)}
            self._launch()
            if self._answers():
                return
            said = (self.folder / "qemu.log").read_text(errors="replace")
            self.kill()
            if "host forwarding rule" not in said:
                raise RunFailed(f"QEMU did not start: {said.strip()[-2000:]}")
            self.ports = {}
        raise RunFailed("QEMU found no free port in five attempts")

    def _launch(self) -> None:
        program = shutil.which("qemu-system-x86_64")
        if program is None:
            raise PrerequisiteMissing("qemu-system-x86_64 is not installed", remedy="run `make setup`")
        with (self.folder / "qemu.log").open("wb") as log:
            self._process = subprocess.Popen(
                # Should this process be killed, nobody is left to call `kill`: the machine goes with the thread that
                # started it.
                ["setpriv", "--pdeathsig", "KILL", program, *self.arguments()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
            )

    def arguments(self) -> list[str]:
        """Return QEMU's arguments; the working folder is the machine's."""
        identity = self.identity
        forwards = "".join(f",hostfwd=tcp:{HOST}:{host}-:{guest}" for guest, host in self.ports.items())
        arguments = ["-name", identity.name, "-machine", "q35", "-m", f"{self.memory_mib}", "-smp", "2", "-cpu", "max"]
        arguments += self.memory
        arguments += ["-accel", ACCELERATORS[accelerator()]]
        arguments += ["-nodefaults", "-no-user-config", "-display", "none", "-device", "virtio-rng-pci"]
        arguments += ["-smbios", f"type=1,manufacturer=Lifeboat,product=Physical,uuid={identity.smbios_uuid}"]
        arguments += ["-serial", "file:console.log", "-qmp", "unix:qmp,server=on,wait=off"]
        for index, drive in enumerate(self.drives):
            arguments += drive.arguments(index, boots=self.kernel is None)
        arguments += ["-netdev", f"user,id=net0{forwards}", "-device", "virtio-net-pci,netdev=net0,romfile="]
        if self.kernel is not None:
            arguments += ["-kernel", str(self.kernel.image), "-initrd", str(self.kernel.initramfs)]
            arguments += ["-append", self.kernel.options]
        if self.firmware == "uefi":
            shutil.copy(OVMF / "OVMF_VARS_4M.fd", self.folder / "firmware.fd")
            code = OVMF / "OVMF_CODE_4M.fd"
            arguments += ["-drive", f"if=pflash,format=raw,readonly=on,file={code}"]
            arguments += ["-drive", "if=pflash,format=raw,file=firmware.fd"]
        return arguments

    def _answers(self) -> bool:
        """Wait until the monitor answers; False when QEMU ended instead."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.pid is not None:
            with suppress(Exception):  # whatever goes wrong while QEMU is starting means: not yet
                self.monitor(("query-status", {}))
                return True
            time.sleep(0.05)
        return False

    def monitor(self, *commands: Command) -> list[Any]:
        """Send commands to QEMU's monitor and return their answers."""
        return converse(self.folder / "qmp", commands)

    def wait_ssh(self, *, timeout_seconds: float = 300) -> float:
        """Wait until a command runs over SSH; return the seconds it took."""
        begun = time.monotonic()
        while time.monotonic() - begun < timeout_seconds:
            if self.pid is None:
                raise RunFailed(f"{self.identity.name} is off", remedy=f"read {self.console}")
            if _banner(self.port(SSH)):
                with suppress(paramiko.SSHException, OSError, EOFError):
                    self.ssh("true")
                    return time.monotonic() - begun
            time.sleep(0.2)
        raise Unreachable(
            f"{self.identity.name} did not answer on SSH within {timeout_seconds:.0f} s", remedy=f"read {self.console}"
        )

    def connect(self) -> paramiko.SSHClient:
        """Return an SSH connection as `dradmin`, with the host key pinned; the caller closes it."""
        client = paramiko.SSHClient()
        kind, blob = self.host_key.split()[:2]
        key = paramiko.Ed25519Key(data=base64.b64decode(blob))
        client.get_host_keys().add(f"[{HOST}]:{self.port(SSH)}", kind, key)
        client.connect(
            HOST,
            self.port(SSH),
            ADMIN,
            key_filename=str(self.key_file),
            allow_agent=False,
            look_for_keys=False,
            timeout=30,
            banner_timeout=60,
            auth_timeout=60,
        )
        return client

    def ssh(self, command: str, *, timeout_seconds: float = 120) -> CommandResult:
        """Run a command as `dradmin` and return how it ended."""
        with closing(self.connect()) as client:
            _, out, err = client.exec_command(command, timeout=timeout_seconds)
            stdout, stderr = out.read().decode(errors="replace"), err.read().decode(errors="replace")
            return CommandResult(out.channel.recv_exit_status(), stdout, stderr)

    def run(self, command: str, *, timeout_seconds: float = 120) -> str:
        """Run a command that must succeed and return its stdout."""
        result = self.ssh(command, timeout_seconds=timeout_seconds)
        if result.status != 0:
            raise RunFailed(f"`{command}` ended with {result.status}: {result.stderr or result.stdout}")
        return result.stdout

    def stop(self) -> None:
        """Let no instruction of the machine run (it notices nothing) until `cont`."""
        self.monitor(("stop", {}))

    def cont(self) -> None:
        """Let the machine run on."""
        self.monitor(("cont", {}))

    def freeze_copy(self, path: Path) -> Path:
        """Keep the one disk as it is at this instant in a raw file at `path`, and return that path.

        The file is a hard link to the layer that is not written any more where that is possible, else a copy made
        after the machine runs again. It survives the machine's folder.
        """
        (layer,) = self.freeze_layers()
        return copy_layer(layer, path)

    def freeze_layers(self) -> list[Layer]:
        """Send all later writes to new layers and return those below, one for each disk, which never change again.

        The machine is stopped for the milliseconds that QEMU needs for that, so they are of one instant.
        """
        was_running = bool(self.monitor(("query-status", {}))[0]["running"])
        made = [drive.snapshot(index, self.folder) for index, drive in enumerate(self.drives)]
        try:
            self.monitor(("stop", {}), *(command for command, _ in made))
        finally:
            if was_running:
                self.cont()
        frozen = [drive.layers[-1] for drive in self.drives]
        for drive, (_, layer) in zip(self.drives, made, strict=True):
            drive.layers.append(layer)
        return frozen

    def kill(self) -> None:
        """End the machine as a fire does: nothing is written any more. Does nothing when it is off."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        (self.folder / "qmp").unlink(missing_ok=True)

    def shut_down(self, *, timeout_seconds: float = 120) -> None:
        """Let the system inside shut down in order; kill it when that takes too long."""
        if self._process is not None:
            with suppress(paramiko.SSHException, OSError, EOFError):
                self.ssh("sudo systemctl --no-block poweroff", timeout_seconds=30)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout_seconds)
        self.kill()

    def __enter__(self) -> SourceMachine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def accelerator() -> str:
    """Return what LIFEBOAT_ACCEL names ("tcg" or "kvm"); "tcg", which works everywhere, when it is unset."""
    chosen = os.environ.get("LIFEBOAT_ACCEL") or "tcg"
    if chosen not in ACCELERATORS:
        raise PrerequisiteMissing(f'LIFEBOAT_ACCEL is "{chosen}"', remedy='set it to "kvm" or "tcg", or unset it')
    return chosen


def wait_for(what: str, condition: Callable[[], bool], *, timeout_seconds: float) -> None:
    """Poll until `condition` holds; an OSError counts as not yet."""
    deadline = time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        with suppress(OSError):
            if condition():
                return
        time.sleep(0.3)
    raise Unreachable(f"{what} did not happen within {timeout_seconds:.0f} s")


def make_key(path: Path) -> str:
    """Write a new SSH key to `path` and `path`.pub; return the public one."""
    key = Ed25519PrivateKey.generate()
    encoding, form = serialization.Encoding, serialization.PrivateFormat
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(encoding.PEM, form.OpenSSH, serialization.NoEncryption()))
    public = key.public_key().public_bytes(encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    path.with_suffix(".pub").write_text(public + "\n")
    return public


def _banner(port: int) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port), DEAF_SECONDS) as connection:
        connection.settimeout(DEAF_SECONDS)
        return connection.recv(8).startswith(b"SSH-")
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
