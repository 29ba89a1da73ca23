"""The Pulumi stacks of a target: made where they are missing, and their configuration files.

A stack's configuration file, Pulumi.STACK.yaml, is ignored by git, so a fresh checkout has none. It must carry what
the stack's state was encrypted with: the salt of the passphrase on target local, the wrapped key on target azure. The
CLI would make up another one, and the next `up` would encrypt the whole state anew. The state in the backend holds it
from the moment the stack is made.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dr.compile.names import TAG_SITE
from dr.durable import write_durably
from dr.errors import Corrupt, PrerequisiteMissing, RunFailed
from dr.failover.engine import Engine
from dr.failover.repair import run_of
from dr.model import Declaration
from dr.target.backend import backend_of
from dr.target.choice import LOCAL, subscription_of
from dr.target.folders import Folders

INIT_SECONDS = 120.0
PASSPHRASE = "passphrase"  # noqa: S105 - the name of a secrets provider
_ENCRYPTION = ("encryptionsalt", "encryptedkey", "secretsprovider")
State = Mapping[str, Any]  # a stack's deployment, as the backend keeps it


@dataclass(frozen=True, slots=True)
class Binding:
    """What ties a stack to its target and site; `site` is the declared one, for a stack that holds nothing yet."""

    subscription: str
    location: str
    site: str
    secrets_provider: str


def binding_of(target: str, declaration: Declaration) -> Binding:
    """Return what ties the stacks of a declaration to a target. Errors as `subscription_of`."""
    site, subscription = declaration.site, subscription_of(target, declaration.site)
    provider = PASSPHRASE if target == LOCAL else backend_of(site, subscription).secrets_provider
    return Binding(subscription, site.location, site.name, provider)


def stack_names(declaration: Declaration, target: str) -> Iterator[str]:
    """Yield the stacks that a declaration stands for on a target."""
    yield f"vault-{target}"
    yield f"site-{target}"
    for plan in declaration.plans:
        yield f"failover-{plan}-{target}"


def state_of(
    stack: str, *, project: Path, environment: Mapping[str, str], folders: Folders
) -> Callable[[], State | None]:
    """Return what reads a stack's state: the file of target local, else the CLI, which knows every backend."""
    if environment["PULUMI_BACKEND_URL"] == f"file://{folders.state}":
        return lambda: local_state(stack, project, folders)  # a thousand times as fast
    return Engine(project, stack, {**os.environ, **environment}).state


def prepare_stack(
    stack: str, *, project: Path, environment: Mapping[str, str], binding: Binding, folders: Folders
) -> bool:
    """Make `stack` if the backend has none, and its configuration file; return whether the stack was made.

    `project` is the folder of Pulumi.yaml; `environment` as `dr.local.environment` makes it. `dr:site` ties a stack to
    the site it was made for. `RunFailed` with the CLI's words.
    """
    state = state_of(stack, project=project, environment=environment, folders=folders)
    configuration = project / f"Pulumi.{stack}.yaml"
    held = state()
    made = held is None
    if made:
        # A file of an earlier backend holds a salt or a key that this one may not open.
        _write(configuration, {k: v for k, v in _read(configuration).items() if k not in _ENCRYPTION})
        _initialise(stack, project, environment, binding.secrets_provider)
        held = state()
    held = held or {}
    content = _read(configuration)
    wanted = {**content, **_encryption(held)}
    fixed = {"azure-native:subscriptionId": binding.subscription, "azure-native:location": binding.location}
    fixed["dr:site"] = _site(held) or binding.site
    wanted["config"] = {**_held_run(held), **(content.get("config") or {}), **fixed}
    if wanted != content:
        _write(configuration, wanted)
    return made


def local_state(stack: str, project: Path, folders: Folders) -> State | None:
    """Return what the file backend of target local has of a stack. `Corrupt` when it cannot be read."""
    path = state_file(stack, project, folders)
    try:
        latest: State = json.loads(path.read_bytes())["checkpoint"]["latest"] or {}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError) as error:
        raise Corrupt(f"the state of a stack cannot be read: {path} ({error!r})", code="state-unreadable") from error
    return latest


def state_file(stack: str, project: Path, folders: Folders) -> Path:
    """Return where the file backend keeps a stack's state."""
    name = yaml.safe_load((project / "Pulumi.yaml").read_text())["name"]
    return folders.state / ".pulumi" / "stacks" / str(name) / f"{stack}.json"


def _initialise(stack: str, project: Path, environment: Mapping[str, str], secrets_provider: str) -> None:
    variables = {**os.environ, **environment}
    pulumi = shutil.which("pulumi", path=variables["PATH"])
    if pulumi is None:
        raise PrerequisiteMissing("the Pulumi CLI is not on this machine", remedy="run `make setup`")
    command = [pulumi, "stack", "init", "--no-select", "--stack", stack]
    made = subprocess.run(
        [*command, "--secrets-provider", secrets_provider, "--non-interactive"],
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


def _encryption(held: State) -> dict[str, str]:
    """Return what the configuration file must say of the state's encryption."""
    provider = held.get("secrets_providers") or {}
    state = provider.get("state") or {}
    if provider.get("type") == "cloud":
        return {"secretsprovider": str(state["url"]), "encryptedkey": str(state["encryptedkey"])}
    return {"encryptionsalt": str(state["salt"])} if state.get("salt") else {}


def _site(held: State) -> str | None:
    """Return the site that the stack's resources are tagged with; None when it holds none."""
    for resource in reversed(held.get("resources") or []):
        tags = (resource.get("inputs") or {}).get("tags")
        if isinstance(tags, dict) and tags.get(TAG_SITE):
            return str(tags[TAG_SITE])
    return None


def _held_run(held: State) -> dict[str, str]:
    """Return what ties a failover's stack to its run: a checkout without it would replace what runs by another run."""
    run = run_of(held)
    if run is None:
        return {}
    return {"dr:run": run.run, **({"dr:point": run.selector} if run.selector else {})}


def _read(path: Path) -> dict[str, Any]:
    try:
        return yaml.safe_load(path.read_text()) or {}
    except FileNotFoundError:
        return {}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_durably(path, yaml.safe_dump(dict(content), sort_keys=False).encode(), mode=0o600)
