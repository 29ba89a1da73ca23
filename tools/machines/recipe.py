"""What a test machine is made from, as one hash; so a changed recipe gives a new machine. Standard library only."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tools.machines.shape import Shape
from tools.setup.paths import Cache

HERE = Path(__file__).resolve().parent
GUEST = HERE / "guest"
SHOP = HERE / "shop"
SUITES = {11: "bullseye", 12: "bookworm", 13: "trixie"}  # by Debian's version
ENDED = ("bullseye",)  # their last security updates are listed still, and not all of them can be had any more
DEBIAN = 12  # of a machine that asks for no other


def tree_path(cache: Cache, debian: int = DEBIAN) -> Path:
    """Return where the archive of a Debian's file tree lies, or will lie."""
    return cache.machines / f"tree-{debian}-{_hash_of(GUEST)}.tar.zst"


def template_path(cache: Cache, debian: int = DEBIAN) -> Path:
    """Return where the bootable disk that machines are copied from lies, or will lie."""
    return cache.machines / f"disk-{debian}-{_hash_of(GUEST, SHOP, HERE / 'disk.py')}.raw"


def shape_path(cache: Cache, shape: Shape) -> Path:
    """Return the folder where the disks and keys of a machine of this shape lie, or will lie."""
    parts = (GUEST, SHOP, *(HERE / name for name in ("disk.py", "image.py", "laying.py", "lay-out.sh")))
    return cache.machines / f"{shape.name}-{_hash_of(*parts)}"


def _hash_of(*folders_and_files: Path) -> str:
    """Return 16 digits that change when any of the given files, or files in the given folders, changes."""
    digest = hashlib.sha256()
    for root in folders_and_files:
        for path in [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file()):
            if "__pycache__" not in path.parts:
                digest.update(f"{path.name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
