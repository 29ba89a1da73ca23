"""What is there before the first stack: on target local the folders and the envelope; on either target the stacks."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path

from dr.durable import write_durably
from dr.errors import LifeboatError, RunFailed
from dr.local.environment import pulumi_home
from dr.local.plugins import install_standin, plugin_folder
from dr.local.stacks import binding_of, local_state, prepare_stack, stack_names
from dr.model import Declaration
from dr.target.choice import LOCAL
from dr.target.folders import Folders
from dr.target.secrets import passphrase

Done = tuple[str, str, str]  # what, where, and its state


def lay(folders: Folders, *, dry_run: bool) -> Iterator[Done]:
    """Make the folders and the envelope of target local; yield each with its state.

    The process has the environment of target local. `PrerequisiteMissing` when an older cloud's secret is lost.
    """
    there = folders.state.is_dir()
    if not dry_run:
        make_folders(folders)
    yield "folder of the state", str(folders.state), _state(there, dry_run)
    if dry_run:
        yield "envelope", str(folders.envelope), _state(_has_passphrase(), dry_run)
    else:
        yield "envelope", str(folders.envelope), _state(not make_envelope(folders), dry_run)
    # Without it the CLI would go and look for the official plugin.
    home = pulumi_home(LOCAL, folders)
    there = plugin_folder(home).is_dir() if dry_run else not install_standin(home)
    yield "plugin azure-native (stand-in)", str(plugin_folder(home)), _state(there, dry_run)


def make_stacks(
    declaration: Declaration,
    target: str,
    *,
    project: Path,
    environment: Mapping[str, str],
    folders: Folders,
    dry_run: bool,
) -> Iterator[tuple[str, str]]:
    """Make the stacks of a declaration where they are missing; yield each with its state.

    A dry run asks no backend of target azure: it may not be there yet. Errors as `prepare_stack`.
    """
    binding = binding_of(target, declaration)
    for stack in stack_names(declaration, target):
        if dry_run:
            known = target == LOCAL
            there = known and local_state(stack, project, folders) is not None
            yield stack, _state(there, dry_run) if known else "not asked"
            continue
        try:
            made = prepare_stack(stack, project=project, environment=environment, binding=binding, folders=folders)
        except RunFailed as error:
            if target == LOCAL:
                raise
            remedy = "a role just given counts after some minutes: run the same command again"
            raise RunFailed(error.message, code=error.code, remedy=remedy) from error
        yield stack, _state(not made, dry_run)


def make_folders(folders: Folders) -> None:
    """Make the folders of target local where they are missing."""
    for folder in (folders.root, folders.cloud, folders.site, folders.state, folders.resources, folders.key_store):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in (folders.disks, folders.machines, folders.azurite, folders.envelope.parent):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def make_envelope(folders: Folders) -> bool:
    """Make the break-glass secret of a new cloud; return whether it was made. `PrerequisiteMissing` for an old one."""
    try:
        passphrase()
    except LifeboatError:
        sealed = any(folders.key_store.glob("*.sealed")) or (folders.state / ".pulumi").exists()
        mine = os.environ.get("PULUMI_CONFIG_PASSPHRASE_FILE") == str(folders.envelope)
        if sealed or not mine or folders.envelope.exists():
            raise
    else:
        return False
    write_durably(folders.envelope, f"{secrets.token_urlsafe(32)}\n".encode(), mode=0o600)
    return True


def _has_passphrase() -> bool:
    try:
        passphrase()
    except LifeboatError:
        return False
    return True


def _state(there: bool, dry_run: bool) -> str:
    return "there" if there else "would be made" if dry_run else "made"
