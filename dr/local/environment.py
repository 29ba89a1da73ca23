"""The environment of a target: what `dr env` prints and what commands that call `pulumi` themselves use.

A variable that the person has set stays as it is where it names a choice of theirs (passphrase, folders); what ties
the commands to the target (backend, home of the plugins, key store) is always the target's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from dr.local.tools import checkout, pulumi_folder
from dr.target.backend import Backend
from dr.target.choice import LOCAL, VARIABLE
from dr.target.folders import Folders
from dr.target.secrets import KEY_VAULT_VARIABLE

SECRETS_PROVIDER = "LIFEBOAT_SECRETS_PROVIDER"  # for `pulumi stack init`, which takes it as an option only


def pulumi_home(target: str, folders: Folders) -> Path:
    """Return the PULUMI_HOME of a target: each has its own, so a plugin of one is never found by the other."""
    if target == LOCAL:
        return folders.root / "pulumi"
    return Path.home() / ".local/share/lifeboat/azure/pulumi"


def environment(
    target: str, folders: Folders, base: Mapping[str, str] | None = None, *, backend: Backend | None = None
) -> dict[str, str]:
    """Return the variables that choose `target`; add them to the ones of the process. Azure wants a `backend`."""
    values = os.environ if base is None else base
    root = checkout()
    chosen = {
        VARIABLE: target,
        "LIFEBOAT_LOCAL": str(folders.root),
        "LIFEBOAT_PLANS": str(Path(values.get("LIFEBOAT_PLANS") or root / "plans").absolute()),
        "PULUMI_HOME": str(pulumi_home(target, folders)),
        "PULUMI_IGNORE_AMBIENT_PLUGINS": "true",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PATH": _path(values, root),
    }
    if target == LOCAL:
        return chosen | _local(values, folders)
    assert backend is not None, "target azure keeps its state where the declaration says"
    return chosen | {
        "PULUMI_BACKEND_URL": backend.state_url,
        SECRETS_PROVIDER: backend.secrets_provider,
        KEY_VAULT_VARIABLE: backend.key_store_url,
    }


def stale(target: str, folders: Folders, base: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the variables that another target left behind and that `target` must not inherit."""
    values = os.environ if base is None else base
    if target == LOCAL:
        return tuple(name for name in (SECRETS_PROVIDER, KEY_VAULT_VARIABLE) if values.get(name))
    mine = values.get("PULUMI_CONFIG_PASSPHRASE_FILE", "") == str(folders.envelope)
    return ("PULUMI_CONFIG_PASSPHRASE_FILE",) if mine else ()


def _local(values: Mapping[str, str], folders: Folders) -> dict[str, str]:
    chosen = {"PULUMI_BACKEND_URL": f"file://{folders.state}"}
    if not values.get("PULUMI_CONFIG_PASSPHRASE"):
        named = values.get("PULUMI_CONFIG_PASSPHRASE_FILE")
        chosen["PULUMI_CONFIG_PASSPHRASE_FILE"] = str(Path(named).absolute()) if named else str(folders.envelope)
    return chosen


def _path(values: Mapping[str, str], root: Path) -> str:
    first = [str(root / "bin"), str(root / ".venv" / "bin")]
    cached = pulumi_folder(values)
    if cached is not None:
        first.append(str(cached))
    rest = [part for part in values.get("PATH", os.defpath).split(os.pathsep) if part and part not in first]
    return os.pathsep.join([*first, *rest])
