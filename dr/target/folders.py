"""The folders of target local: `cloud/` plays Azure, `site/` plays the site, `envelope/` the operator's safe.

Only paths; nothing is created or read on import. The layout is in `docs/architecture.md`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LOCAL_SUBSCRIPTION = "00000000-10ca-4000-8000-000000000000"


@dataclass(frozen=True, slots=True)
class Folders:
    """Paths below one root (`LIFEBOAT_LOCAL`)."""

    root: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Folders:
        """Return the folders that `LIFEBOAT_LOCAL` names, or the default ones."""
        values = os.environ if environment is None else environment
        default = Path.home() / ".local/share/lifeboat/local"
        return cls(Path(values.get("LIFEBOAT_LOCAL") or default).absolute())

    @property
    def cloud(self) -> Path:
        return self.root / "cloud"

    @property
    def site(self) -> Path:
        return self.root / "site"

    @property
    def envelope(self) -> Path:
        return self.root / "envelope" / "break-glass"

    @property
    def azurite(self) -> Path:
        return self.cloud / "azurite"

    @property
    def accounts(self) -> Path:
        """`{"endpoint": "http://127.0.0.1:PORT", "accounts": [NAME, …]}`; the keys are sealed in the key store."""
        return self.cloud / "accounts.json"

    @property
    def resources(self) -> Path:
        return self.cloud / "resources"

    @property
    def key_store(self) -> Path:
        return self.cloud / "keyvault"

    @property
    def state(self) -> Path:
        return self.cloud / "state"

    @property
    def disks(self) -> Path:
        return self.cloud / "disks"

    @property
    def machines(self) -> Path:
        return self.cloud / "vms"
