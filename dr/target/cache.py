"""Where `make setup` keeps what it made, outside every checkout."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path


def cache(environment: Mapping[str, str] | None = None) -> Path:
    """Return the cache of this user's Lifeboat: `LIFEBOAT_CACHE`, or `~/.cache/lifeboat`."""
    values = os.environ if environment is None else environment
    named = values.get("LIFEBOAT_CACHE")
    return Path(named).absolute() if named else Path.home() / ".cache" / "lifeboat"
