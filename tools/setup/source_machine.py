"""The disk that the demo's and the tests' machines are copied from, built ahead of the first of them."""

from __future__ import annotations

import os

from dr.errors import PrerequisiteMissing
from tools.machines.recipe import template_path
from tools.setup.paths import CHECKOUT, Cache
from tools.setup.step import call


def build_template(cache: Cache) -> str:
    """Build the disk, in the new environment (this one has no libraries); return what was done."""
    if template_path(cache).exists():
        return ""
    if os.geteuid() != 0:
        raise PrerequisiteMissing(
            "the machine of the demo and the tests is built by root, because its files have other owners",
            remedy=f"run `LIFEBOAT_CACHE={cache.root} make setup` once as root; dr itself works without it",
        )
    call([CHECKOUT / ".venv/bin/python", "-m", "tools.machines.image"], cwd=CHECKOUT)
    return "a Debian 12 was built"
