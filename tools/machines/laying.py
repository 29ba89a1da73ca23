"""A machine of any shape: a Debian lays itself out onto empty disks, with its own tools and no help of this kernel.

This host may lack device mapper, md and vfat; the Debian has them. So its plain disk (`image.template`) is started
with the script `lay-out.sh` in place of init, the empty disks beside it, and what makes the new machine one of its
own as a tar archive on a disk of its own. Nothing but QEMU is needed here.

    CACHE/machines/SHAPE-HASH/disk-0.raw, disk-1.raw, key, key.pub, host-key, log      never written after it was made

It is one machine however often it is started, as `saved.py` says of its own.
"""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import tempfile
import uuid
from pathlib import Path

from dr.errors import RunFailed
from tools.machines.disk import ROOT_OFFSET
from tools.machines.drive import Drive
from tools.machines.image import InnerFile, identity_files, template
from tools.machines.recipe import HERE, shape_path
from tools.machines.shape import Shape
from tools.machines.source import ACCELERATORS, Identity, Kernel, SourceMachine, accelerator, make_key
from tools.setup.making import make_once
from tools.setup.paths import Cache

DISK_BYTES = 1 << 30
MEMORY_MIB = 512
LAY_OUT_SECONDS = 600
LAID_OUT = "laid out"
# Several of these work side by side on emulated processors.
SLOW_SHOP = InnerFile(
    "/etc/systemd/system/shop.service.d/slow.conf", b"[Service]\nEnvironment=SHOP_ORDERS_PER_SECOND=2\n"
)


def machine(shape: Shape, folder: Path, cache: Cache | None = None) -> SourceMachine:
    """Return the machine of a shape, off, with its files in `folder`; lays it out first where nobody has."""
    made = laid_out(shape, cache or Cache.from_environment())
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(made / "key", folder / "key")
    drives = [
        Drive.on_top_of(made / f"disk-{index}.raw", folder / f"layer-{index}.qcow2", serial=_serial(shape, index))
        for index in range(shape.disks)
    ]
    identity = Identity(shape.name, (made / "host-key").read_text(), str(uuid.uuid4()), drives[0].serial)
    return SourceMachine(folder, identity, drives, folder / "key", shape.firmware)


def laid_out(shape: Shape, cache: Cache) -> Path:
    """Return the folder with the disks of a shape, making it first if this recipe has none."""
    folder = shape_path(cache, shape)
    make_once(folder, cache.locks, lambda making: _lay_out(shape, making, cache))
    return folder


def _lay_out(shape: Shape, folder: Path, cache: Cache) -> None:
    base = template(cache, shape.debian)
    folder.mkdir(parents=True)
    files, host_key, _ = identity_files(shape.name, make_key(folder / "key"))
    (folder / "host-key").write_text(host_key)
    disks = {_serial(shape, index): folder / f"disk-{index}.raw" for index in range(shape.disks)}
    for disk in disks.values():
        with disk.open("xb") as file:
            file.truncate(DISK_BYTES)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        scratch = Path(name)
        script, identity = scratch / "script", scratch / "identity.tar"
        _padded(script, _script(shape, list(disks)).encode(), b"\n")
        _padded(identity, _archive((*files, SLOW_SHOP)), b"\0")
        kernel = kernel_of(base, scratch)
        drives = [("root", base, True), ("script", script, True), ("identity", identity, True)]
        drives += [(serial, disk, False) for serial, disk in disks.items()]
        log = folder / "log"
        subprocess.run(_command(kernel, drives, log), check=True, timeout=LAY_OUT_SECONDS)
    said = log.read_text(errors="replace")
    if LAID_OUT not in said.splitlines():
        raise RunFailed(f"{shape.name} could not be laid out: {said.strip()[-3000:]}")


def kernel_of(template: Path, folder: Path) -> Kernel:
    """Take kernel and initramfs out of a Debian's disk into `folder`; the command line is the caller's."""
    extract = ["debugfs", "-R", f"rdump /boot {folder}", f"{template}?offset={ROOT_OFFSET}"]
    subprocess.run(extract, check=True, capture_output=True)
    (image,), (initramfs,) = (folder / "boot").glob("vmlinuz-*"), (folder / "boot").glob("initrd.img-*")
    return Kernel(image, initramfs, "")


def _command(kernel: Kernel, drives: list[tuple[str, Path, bool]], log: Path) -> list[str]:
    # A script that fails ends process 1: the kernel panics, and QEMU ends.
    options = "root=/dev/vda3 ro console=ttyS0 quiet panic=-1 init=/bin/sh -- /dev/vdb"
    command = ["qemu-system-x86_64", "-machine", "q35", "-accel", ACCELERATORS[accelerator()], "-cpu", "max"]
    command += ["-smp", "2", "-m", f"{MEMORY_MIB}", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]
    command += ["-serial", f"file:{log}", "-kernel", str(kernel.image), "-initrd", str(kernel.initramfs)]
    command += ["-append", options]
    for number, (serial, path, read_only) in enumerate(drives):
        node = f"driver=raw,node-name=n{number},read-only={'on' if read_only else 'off'}"
        command += ["-blockdev", f"{node},file.driver=file,file.filename={path}"]
        command += ["-device", f"virtio-blk-pci,drive=n{number},serial={serial}"]
    return command


def _script(shape: Shape, serials: list[str]) -> str:
    head = (
        f"firmware={shape.firmware} layout={shape.layout} file_system={shape.file_system}\n"
        f'disks="{" ".join(serials)}" identity=identity\n'
    )
    return head + (HERE / "lay-out.sh").read_text()


def _archive(files: tuple[InnerFile, ...]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for file in files:
            member = tarfile.TarInfo(file.path.lstrip("/"))
            member.size, member.mode, member.uid, member.gid = len(file.content), file.mode, file.uid, file.uid
            archive.addfile(member, io.BytesIO(file.content))
    return buffer.getvalue()


def _padded(path: Path, content: bytes, filler: bytes) -> None:
    """Write a file that can be a disk: whole sectors."""
    path.write_bytes(content + filler * (-len(content) % 512))


def _serial(shape: Shape, index: int) -> str:
    return f"{'ab'[index]}-{shape.name}"[:20]  # as many as virtio's serial has
