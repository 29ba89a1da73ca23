"""The Pulumi stacks of the local target: made where they are missing, and their configuration files.

A stack's configuration file, Pulumi.STACK.yaml, is ignored by git, so a fresh checkout has none. It must carry the
salt that the stack's state was encrypted with: the CLI would make up another one, and the next `up` would encrypt the
whole state anew. The state in the backend holds the salt from the moment the stack is made.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from dr.compile.names import TAG_SITE
from dr.durable import write_durably
from dr.errors import Corrupt, PrerequisiteMissing, RunFailed
from dr.failover.repair import run_of
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders

INIT_SECONDS = 120.0


def prepare_stack(
    stack: str, *, project: Path, folders: Folders, environment: Mapping[str, str], site: str, location: str
) -> bool:
    """Make `stack` if the backend has none, and its configuration file; return whether the stack was made.

    `project` is the folder of Pulumi.yaml; `environment` as `dr.local.environment` makes it; `site` is the declared
    one, for a stack that holds nothing yet: `dr:site` ties a stack to the site it was made for. `RunFailed` with the
    CLI's words.
    """
    configuration = project / f"Pulumi.{stack}.yaml"
    state = state_file(stack, project, folders)
    made = not state.exists()
    if made:
        # A file of an earlier local target holds a salt that this passphrase may not open.
        _write(configuration, {k: v for k, v in _read(configuration).items() if k != "encryptionsalt"})
        _initialise(stack, project, environment)
    content = _read(configuration)
    wanted = dict(content)
    salt = _salt(state)
    if salt:
        wanted["encryptionsalt"] = salt
    fixed = {"azure-native:subscriptionId": LOCAL_SUBSCRIPTION, "azure-native:location": location}
    fixed["dr:site"] = _site(state) or site
    wanted["config"] = {**_held_run(state), **(content.get("config") or {}), **fixed}
    if wanted != content:
        _write(configuration, wanted)
    return made


def state_file(stack: str, project: Path, folders: Folders) -> Path:
    """Return where the file backend keeps a stack's state."""
    name = yaml.safe_load((project / "Pulumi.yaml").read_text())["name"]
    return folders.state / ".pulumi" / "stacks" / str(name) / f"{stack}.json"


def _initialise(stack: str, project: Path, environment: Mapping[str, str]) -> None:
    variables = {**os.environ, **environment}
    pulumi = shutil.which("pulumi", path=variables["PATH"])
    if pulumi is None:
        raise PrerequisiteMissing("the Pulumi CLI is not on this machine", remedy="run `make setup`")
    command = [pulumi, "stack", "init", "--no-select", "--stack", stack]
    made = subprocess.run(
        [*command, "--secrets-provider", "passphrase", "--non-interactive"],
        cwd=project,
        env=variables,
        capture_output=True,
        text=True,
        timeout=INIT_SECONDS,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    if made.returncode:
        raise RunFailed(f"the stack {stack} could not be made: {made.stderr.strip() or made.stdout.strip()}")


def _salt(state: Path) -> str | None:
    salt = ((_latest(state).get("secrets_providers") or {}).get("state") or {}).get("salt")
    return str(salt) if salt else None


def _site(state: Path) -> str | None:
    """Return the site that the stack's resources are tagged with; None when it holds none."""
    for resource in reversed(_latest(state).get("resources") or []):
        tags = (resource.get("inputs") or {}).get("tags")
        if isinstance(tags, dict) and tags.get(TAG_SITE):
            return str(tags[TAG_SITE])
    return None


def _held_run(state: Path) -> dict[str, str]:
    """Return what ties a failover's stack to its run: a checkout without it would replace what runs by another run."""
    held = run_of(_latest(state))
    if held is None:
        return {}
    return {"dr:run": held.run, **({"dr:point": held.selector} if held.selector else {})}


def _latest(state: Path) -> dict[str, Any]:
    try:
        latest: dict[str, Any] = json.loads(state.read_bytes())["checkpoint"]["latest"] or {}
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise Corrupt(f"the state of a stack cannot be read: {state} ({error!r})", code="state-unreadable") from error
    return latest


def _read(path: Path) -> dict[str, Any]:
    try:
        return yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError:
        return {}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_durably(path, yaml.safe_dump(dict(content), sort_keys=False).encode(), mode=0o600)
