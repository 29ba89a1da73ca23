"""Which accelerator QEMU can really use here, found by a short real boot.

`/dev/kvm` proves nothing: nested or filtered KVM may exist and hang. So a boot sector that ends QEMU through its
debug-exit device is booted under each accelerator with a time limit; the first that ends as it should is taken. The
answer is kept in the cache until the machine reboots or QEMU changes. `LIFEBOAT_ACCEL` overrides it.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dr.durable import write_durably
from dr.errors import PrerequisiteMissing
from dr.local.tools import program
from dr.target.cache import cache

QEMU = "qemu-system-x86_64"
KVM_SECONDS = 6.0
TCG_SECONDS = 60.0

# mov dx, 0x501; mov al, 0x21; out dx, al; hlt: QEMU's isa-debug-exit turns the byte into exit code (0x21 << 1) | 1.
_BOOT_SECTOR = bytes.fromhex("ba0105b021eef4").ljust(510, b"\0") + b"\x55\xaa"
_EXIT_CODE = (0x21 << 1) | 1


@dataclass(frozen=True, slots=True)
class Accelerator:
    """`name` is "kvm" or "tcg"."""

    name: str

    @property
    def arguments(self) -> tuple[str, ...]:
        if self.name == "kvm":
            return ("-accel", "kvm", "-cpu", "host")
        return ("-accel", "tcg,thread=multi", "-cpu", "max")


def accelerator(environment: Mapping[str, str] | None = None) -> Accelerator:
    """Return the accelerator to use. `PrerequisiteMissing` when QEMU boots under none."""
    values = os.environ if environment is None else environment
    chosen = values.get("LIFEBOAT_ACCEL")
    if chosen:
        if chosen not in {"kvm", "tcg"}:
            raise PrerequisiteMissing(f'LIFEBOAT_ACCEL is "{chosen}"', remedy='set it to "kvm" or "tcg", or unset it')
        return Accelerator(chosen)
    memory = cache(values) / "accelerator.json"
    key = _key()
    try:
        known = json.loads(memory.read_text())
    except (FileNotFoundError, ValueError):
        known = {}
    if known.get("key") == key:
        return Accelerator(known["name"])
    found = _probe()
    memory.parent.mkdir(parents=True, exist_ok=True)
    write_durably(memory, json.dumps({"key": key, "name": found.name}).encode())
    return found


def _probe() -> Accelerator:
    candidates = [Accelerator("tcg")]
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        candidates.insert(0, Accelerator("kvm"))
    for candidate in candidates:
        if boots(candidate, KVM_SECONDS if candidate.name == "kvm" else TCG_SECONDS):
            return candidate
    raise PrerequisiteMissing(f"{QEMU} boots nothing on this machine", remedy="run `make setup`")


def boots(candidate: Accelerator, seconds: float) -> bool:
    """Say whether a boot sector runs to its end under `candidate` within `seconds`."""
    with tempfile.TemporaryDirectory(prefix="lifeboat-probe-") as folder:
        image = Path(folder) / "boot.raw"
        image.write_bytes(_BOOT_SECTOR.ljust(1 << 20, b"\0"))
        drive = json.dumps({"driver": "raw", "node-name": "d0", "file": {"driver": "file", "filename": str(image)}})
        command = [
            *(program(QEMU), "-machine", "q35", *candidate.arguments, "-m", "32"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-device", "isa-debug-exit,iobase=0x501,iosize=1"),
            *("-blockdev", drive, "-device", "virtio-blk-pci,drive=d0,bootindex=0"),
        ]
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            return child.wait(seconds) == _EXIT_CODE
        except subprocess.TimeoutExpired:
            return False
        finally:
            child.kill()
            child.wait()


def _key() -> str:
    version = subprocess.run([program(QEMU), "--version"], capture_output=True, text=True, check=True).stdout
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {version.splitlines()[0]}"
