"""A bootable raw disk from a file tree, without loop devices or mounts.

    sector 0        protective MBR with GRUB's boot.img, then the GPT
    1 MiB           BIOS boot partition (1 MiB): GRUB's core.img
    2 MiB           EFI system partition (32 MiB, FAT): EFI/BOOT/BOOTX64.EFI
    34 MiB to end   root, ext4, found by its UUID

So one disk boots under BIOS and under UEFI. The file is sparse.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import uuid
from pathlib import Path

SECTOR = 512
MIB = 1 << 20
CORE_SECTOR = MIB // SECTOR
ESP_OFFSET = 2 * MIB
ESP_BYTES = 32 * MIB
ROOT_OFFSET = ESP_OFFSET + ESP_BYTES
KERNEL_OPTIONS = "rw console=ttyS0 net.ifnames=0 quiet"
LAYOUT = (
    "label: gpt\n"
    "size=1M, type=21686148-6449-6E6F-744E-656564454649\n"
    "size=32M, type=C12A7328-F81F-11D2-BA4B-00C93EC93B3B\n"
    "type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n"
)
MODULES = (
    "part_gpt",
    "ext2",
    "search",
    "search_fs_uuid",
    "configfile",
    "normal",
    "linux",
    "serial",
    "terminal",
    "echo",
    "gzio",
)
GRUB = Path("/usr/lib/grub")


def write_disk(tree: Path, disk: Path, size_bytes: int, scratch: Path) -> None:
    """Write a bootable disk of `size_bytes` with the content of `tree` (fstab and grub.cfg are added to it)."""
    with disk.open("wb") as file:
        file.truncate(size_bytes)
    _run("sfdisk", "--quiet", str(disk), text=LAYOUT)
    root_uuid = str(uuid.uuid4())
    (tree / "etc/fstab").write_text(f"UUID={root_uuid} / ext4 defaults,noatime 0 0\n")
    (tree / "boot/grub").mkdir(exist_ok=True)
    (tree / "boot/grub/grub.cfg").write_text(_grub_menu(tree / "boot", root_uuid))
    table = json.loads(_run("sfdisk", "--json", str(disk)))["partitiontable"]["partitions"]
    blocks = table[2]["size"] * SECTOR // 4096
    # No lazy initialisation: the kernel would go on writing inode tables for minutes after the first boot.
    options = f"offset={ROOT_OFFSET},lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    _run(
        "mkfs.ext4",
        "-q",
        "-b4096",
        "-m0",
        "-L",
        "root",
        "-U",
        root_uuid,
        "-d",
        str(tree),
        "-E",
        options,
        str(disk),
        f"{blocks}",
    )
    _install_grub(disk, root_uuid, scratch)


def _grub_menu(boot: Path, root_uuid: str) -> str:
    kernel = max(p.name for p in boot.glob("vmlinuz-*"))
    initramfs = max(p.name for p in boot.glob("initrd.img-*"))
    return (
        "serial --unit=0\nterminal_output serial\nset timeout=0\n"
        f"search --no-floppy --fs-uuid --set=root {root_uuid}\n"
        "menuentry Debian {\n"
        f"\tlinux /boot/{kernel} root=UUID={root_uuid} {KERNEL_OPTIONS}\n"
        f"\tinitrd /boot/{initramfs}\n"
        "}\n"
    )


def _install_grub(disk: Path, root_uuid: str, scratch: Path) -> None:
    early = scratch / "early.cfg"
    early.write_text(
        f"search --no-floppy --fs-uuid --set=root {root_uuid}\n"
        "set prefix=($root)/boot/grub\nconfigfile $prefix/grub.cfg\n"
    )
    core, efi = scratch / "core.img", scratch / "BOOTX64.EFI"
    common = ["-p", "/boot/grub", "-c", str(early)]
    _run("grub-mkimage", "-O", "i386-pc", "-o", str(core), *common, "biosdisk", *MODULES)
    _run("grub-mkimage", "-O", "x86_64-efi", "-o", str(efi), *common, "efi_gop", "all_video", *MODULES)
    esp = scratch / "esp"
    with esp.open("wb") as file:
        file.truncate(ESP_BYTES)
    _run("mkfs.fat", "-n", "ESP", str(esp))
    _run("mmd", "-i", str(esp), "::EFI", "::EFI/BOOT")
    _run("mcopy", "-i", str(esp), str(efi), "::EFI/BOOT/")
    boot_sector, core_sectors = _bios_boot((GRUB / "i386-pc/boot.img").read_bytes(), core.read_bytes())
    with disk.open("r+b") as file:
        os.pwrite(file.fileno(), boot_sector[:440], 0)  # what follows in sector 0 is the protective MBR
        os.pwrite(file.fileno(), core_sectors, CORE_SECTOR * SECTOR)
        os.pwrite(file.fileno(), esp.read_bytes(), ESP_OFFSET)


def _bios_boot(boot: bytes, core: bytes) -> tuple[bytes, bytes]:
    """Point boot.img at core.img and core.img at its own rest, as grub-bios-setup does (offsets: GRUB's boot.h)."""
    first, rest = bytearray(boot[:SECTOR]), bytearray(core)
    first[0x5C:0x64] = struct.pack("<Q", CORE_SECTOR)
    first[0x66:0x68] = b"\x90\x90"  # no check for a floppy drive
    sectors = (len(core) + SECTOR - 1) // SECTOR
    rest[500:512] = struct.pack("<QHH", CORE_SECTOR + 1, sectors - 1, 0x820)
    if sectors > CORE_SECTOR:
        raise ValueError(f"core.img has {sectors} sectors, the BIOS boot partition {CORE_SECTOR}")
    return bytes(first), bytes(rest)


def _run(*command: str, text: str | None = None) -> str:
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"{command[0]} ended with {result.returncode}: {result.stderr.strip()}")
    return result.stdout
