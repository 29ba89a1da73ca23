"""What a test machine is made from, as one hash; so a changed recipe gives a new machine. Standard library only."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tools.setup.paths import Cache

HERE = Path(__file__).resolve().parent
GUEST = HERE / "guest"
SHOP = HERE / "shop"
SUITE = "bookworm"


def tree_path(cache: Cache) -> Path:
    """Return where the archive of the file tree lies, or will lie."""
    return cache.machines / f"tree-{_hash_of(GUEST)}.tar.zst"


def template_path(cache: Cache) -> Path:
    """Return where the bootable disk that machines are copied from lies, or will lie."""
    return cache.machines / f"disk-{_hash_of(GUEST, SHOP, HERE / 'disk.py')}.raw"


def _hash_of(*folders_and_files: Path) -> str:
    """Return 16 digits that change when any of the given files, or files in the given folders, changes."""
    digest = hashlib.sha256(SUITE.encode())
    for root in folders_and_files:
        for path in [root] if root.is_file() else sorted(p for p in root.rglob("*") if p.is_file()):
            if "__pycache__" not in path.parts:
                digest.update(f"{path.name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
