"""Declarations that the programs are run on: a small one, and the two that use every key between them."""

from __future__ import annotations

from pathlib import Path

from dr.model import Declaration
from dr.schema import load
from tests.declaration.test_whole import by_express_route, declared, whole

SUBSCRIPTION = "3f2b1c5e-7a64-4c1d-9d5b-0a1b2c3d4e5f"
_OS = "  - name: os\n    device: /dev/disk/by-id/virtio-web1-os\n"


def small() -> Declaration:
    """Return the example estate of the checkout."""
    return load(Path(__file__).parents[2] / "plans")


def full() -> Declaration:
    """Return the estate with every key, a VPN gateway among them, and a second disk."""
    return declared(whole((_OS, f"{_OS}  - name: data\n    device: /dev/disk/by-id/virtio-web1-data\n")))


def express_route() -> Declaration:
    """Return the full estate with the other kind of gateway."""
    return declared(by_express_route())
