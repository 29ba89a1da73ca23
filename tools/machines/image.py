"""Disks of test machines: one template per recipe and Debian in the cache, and instances, each a machine of its own.

An instance is a copy of the template with its own SSH host key, machine id, host name and authorized key, written
into its file system by debugfs, so that neither root nor a loop device is needed once the template exists.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tools.machines.disk import ROOT_OFFSET, write_disk
from tools.machines.recipe import DEBIAN, SHOP, template_path
from tools.machines.tree import tree_archive
from tools.setup.making import make_once, remove
from tools.setup.paths import Cache

DISK_BYTES = 2 << 30
ADMIN = "dradmin"
ADMIN_UID = 1000


@dataclass(frozen=True, slots=True)
class Instance:
    """What was written: the raw disk, and the identity that nobody else has."""

    disk: Path
    size_bytes: int
    host_key: str  # "ssh-ed25519 AAAA…"
    machine_id: str


@dataclass(frozen=True, slots=True)
class InnerFile:
    """One file to write into an instance."""

    path: str
    content: bytes
    mode: int = 0o644
    uid: int = 0


def template(cache: Cache | None = None, debian: int = DEBIAN) -> Path:
    """Return the raw disk that instances are copied from, building it first if this recipe has none."""
    place = cache or Cache.from_environment()
    path = template_path(place, debian)
    make_once(path, place.locks, lambda making: _build_template(making, place, debian))
    return path


def _build_template(path: Path, cache: Cache, debian: int) -> None:
    archive = tree_archive(cache, debian)
    scratch = cache.machines / f".scratch-disk-{debian}"
    remove(scratch)
    tree = scratch / "tree"
    tree.mkdir(parents=True)
    try:
        subprocess.run(["tar", "--zstd", "--numeric-owner", "-xf", str(archive), "-C", str(tree)], check=True)
        _install_shop(tree)
        write_disk(tree, path, DISK_BYTES, scratch)
    finally:
        remove(scratch)


def _install_shop(tree: Path) -> None:
    folder = tree / "usr/local/lib/shop"
    folder.mkdir(parents=True)
    shutil.copy(SHOP / "shop.py", folder / "shop.py")
    units = tree / "etc/systemd/system"
    shutil.copy(SHOP / "shop.service", units / "shop.service")
    wants = units / "multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "shop.service").symlink_to("/etc/systemd/system/shop.service")


def build_instance(disk: Path, *, name: str, authorized_key: str, cache: Cache | None = None) -> Instance:
    """Write a new machine's raw disk to `disk`; `name` is its host name, `authorized_key` opens `dradmin`."""
    source = template(cache)
    subprocess.run(["cp", "--reflink=auto", "--sparse=always", str(source), str(disk)], check=True)
    files, host_key, machine_id = identity_files(name, authorized_key)
    write_files(disk, files)
    return Instance(disk, disk.stat().st_size, host_key, machine_id)


def identity_files(name: str, authorized_key: str) -> tuple[tuple[InnerFile, ...], str, str]:
    """Return the files that make a machine one of its own, its new public host key, and its new machine id."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    machine_id = uuid.uuid4().hex
    files = (
        InnerFile("/etc/ssh/ssh_host_ed25519_key", private, mode=0o600),
        InnerFile("/etc/ssh/ssh_host_ed25519_key.pub", public + b"\n"),
        InnerFile("/etc/machine-id", machine_id.encode() + b"\n", mode=0o444),
        InnerFile("/etc/hostname", name.encode() + b"\n"),
        InnerFile("/etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {name}\n".encode()),
        InnerFile(f"/home/{ADMIN}/.ssh/authorized_keys", authorized_key.encode() + b"\n", mode=0o600, uid=ADMIN_UID),
    )
    return files, public.decode(), machine_id


def write_files(disk: Path, files: tuple[InnerFile, ...]) -> None:
    """Write files into the root file system of a disk that no machine is running from."""
    scratch = disk.with_name(f".{disk.name}.files")
    scratch.mkdir(mode=0o700)
    script = []
    try:
        for number, file in enumerate(files):
            outer = scratch / str(number)
            outer.write_bytes(file.content)
            outer.chmod(file.mode)
            script += [f"rm {file.path}", f"cd {os.path.dirname(file.path)}"]  # noqa: PTH120 - a path in the guest
            script += [f"write {outer} {os.path.basename(file.path)}"]  # noqa: PTH119
            script += [f"sif {file.path} uid {file.uid}", f"sif {file.path} gid {file.uid}"]
        _debugfs(disk, "\n".join(script) + "\n", write=True)
    finally:
        shutil.rmtree(scratch)
    for file in files:  # debugfs ends with 0 whatever happened
        if _debugfs(disk, f"cat {file.path}\n") != file.content:
            raise RuntimeError(f"{file.path} could not be written into {disk}")


def _debugfs(disk: Path, script: str, *, write: bool = False) -> bytes:
    command = ["debugfs", *(["-w"] if write else []), "-f", "-", f"{disk}?offset={ROOT_OFFSET}"]
    output = subprocess.run(command, input=script.encode(), capture_output=True, check=True).stdout
    # With a script, debugfs echoes each command as `debugfs: COMMAND` before its output.
    return output.partition(b"\n")[2] if not write else output


if __name__ == "__main__":
    template()
