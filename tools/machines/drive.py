"""A disk of a test machine: raw at the bottom, and a new layer above it whenever a picture of it is kept."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.machines.monitor import Command

Layer = tuple[Path, str]  # file, format


@dataclass(slots=True)
class Drive:
    """One disk; of its `layers` only the last one is written."""

    serial: str
    size_bytes: int
    layers: list[Layer]

    @classmethod
    def on_top_of(cls, base: Path, layer: Path, *, serial: str) -> Drive:
        """Return a disk that starts as `base` (raw, never written) shows it and is written in the new file `layer`."""
        qemu_img("create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base.absolute()), str(layer))
        return cls(serial, base.stat().st_size, [(base, "raw"), (layer, "qcow2")])

    @property
    def device(self) -> str:
        """The disk's stable name inside the machine."""
        return f"/dev/disk/by-id/virtio-{self.serial}"

    def arguments(self, index: int, *, boots: bool = True) -> list[str]:
        """Return QEMU's arguments for the machine's disk number `index`; if it `boots`, from the first disk it can."""
        node = self._node(index)
        path, kind = self.layers[-1]
        options: Mapping[str, str] = {
            "driver": kind,
            "node-name": node,
            "file.driver": "file",
            "file.filename": str(path.absolute()),
        }
        blockdev = ",".join(f"{name}={value.replace(',', ',,')}" for name, value in options.items())
        device = f"virtio-blk-pci,drive={node},serial={self.serial}" + (f",bootindex={index}" if boots else "")
        return ["-blockdev", blockdev, "-device", device]

    def snapshot(self, index: int, folder: Path) -> tuple[Command, Layer]:
        """Return the command that sends all later writes to a new layer in `folder`, and that layer."""
        layer = folder / f"layer-{index}-{len(self.layers)}.qcow2"
        arguments = {
            "node-name": self._node(index),
            "snapshot-node-name": self._node(index, above=1),
            "snapshot-file": str(layer.absolute()),
            "format": "qcow2",
        }
        return ("blockdev-snapshot-sync", arguments), (layer, "qcow2")

    def _node(self, index: int, above: int = 0) -> str:
        return f"disk{index}-{len(self.layers) + above}"


def copy_layer(layer: Layer, path: Path) -> Path:
    """Make a raw file at `path` of a layer that is not written any more, with all below it; return `path`."""
    file, kind = layer
    if kind == "raw":
        _same_file(file, path)
    else:
        qemu_img("convert", "-U", "-f", kind, "-O", "raw", str(file), str(path))
    return path


def qemu_img(*arguments: str) -> None:
    """Run qemu-img."""
    subprocess.run(["qemu-img", *arguments], check=True, stdin=subprocess.DEVNULL)


def _same_file(frozen: Path, path: Path) -> None:
    try:
        path.hardlink_to(frozen)
    except OSError:  # another file system, or one without hard links
        subprocess.run(["cp", "--reflink=auto", "--sparse=always", str(frozen), str(path)], check=True)
