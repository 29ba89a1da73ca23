"""A machine that has booted already: saved once with its memory, resumed in about a second as often as wanted.

A test that needs a *running* server and not its boot starts here. What is resumed is always the same machine: same
keys, same hardware identity, same state of the disk; two of them must not meet in one site.

    CACHE/machines/saved-HASH/disk.raw, memory, state, key, identity.json      never written after it was made

The memory is a file that QEMU maps: shared while it is saved, private on resume, so nothing is copied.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import shutil
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

from dr.errors import RunFailed
from tools.machines.drive import Drive
from tools.machines.recipe import template_path
from tools.machines.source import Identity, SourceMachine, accelerator
from tools.setup.making import make_once
from tools.setup.paths import Cache

NAME = "shop1"
# Memory that both sides map is left out of the stream.
LEAVE_MEMORY_OUT = (
    "migrate-set-capabilities",
    {"capabilities": [{"capability": "x-ignore-shared", "state": True}]},
)
# Loaded into the page cache before saving, because the first thing a test does is to install the agent.
WARM_UP = (
    "python3 -c 'import ssl, sqlite3, ctypes, json, http.client' && openssl version && sudo systemctl is-active shop"
)


def resume(folder: Path, cache: Cache | None = None) -> SourceMachine:
    """Return the running machine `shop1` with its files in `folder`; saves it first where this machine never did."""
    saved = saved_machine(cache or Cache.from_environment())
    folder.mkdir(parents=True, exist_ok=True)
    key = folder / "key"
    shutil.copy(saved / "key", key)
    identity = Identity(**json.loads((saved / "identity.json").read_text()))
    drive = Drive.on_top_of(saved / "disk.raw", folder / "layer.qcow2", serial=identity.disk_serial)
    machine = SourceMachine(folder, identity, [drive], key)
    machine.memory = (*_memory(saved / "memory", machine.memory_mib, shared=False), "-incoming", "defer")
    try:
        machine.start()
        machine.monitor(
            LEAVE_MEMORY_OUT, ("migrate-incoming", {"uri": f"exec:cat {shlex.quote(str(saved / 'state'))}"})
        )
        _wait_for_status(machine, "query-status", {"paused", "running", "postmigrate"}, {"internal-error"})
        machine.cont()
        machine.memory = ()  # whoever switches it off and on again boots it
        machine.wait_ssh(timeout_seconds=60)
        machine.run(f"sudo date --set=@{time.time():.0f}")
    except BaseException:
        machine.kill()
        raise
    return machine


def saved_machine(cache: Cache) -> Path:
    """Return the folder of the saved machine, booting and saving it first if there is none for this recipe."""
    folder = cache.machines / f"saved-{_key(cache)}"
    make_once(folder, cache.locks, _save)
    return folder


def _save(folder: Path) -> None:
    with SourceMachine.create(folder, name=NAME) as machine:
        machine.memory = _memory(folder / "memory", machine.memory_mib, shared=True)
        machine.start()
        machine.wait_ssh()
        machine.run(WARM_UP)
        state = shlex.quote(str(folder / "state"))
        machine.monitor(LEAVE_MEMORY_OUT, ("stop", {}), ("migrate", {"uri": f"exec:cat > {state}"}))
        _wait_for_status(machine, "query-migrate", {"completed"}, {"failed", "cancelled"})
        (folder / "identity.json").write_text(json.dumps(asdict(machine.identity)))


def _memory(file: Path, mib: int, *, shared: bool) -> tuple[str, ...]:
    backing = f"memory-backend-file,id=ram,size={mib}M,mem-path={file},share={'on' if shared else 'off'}"
    return ("-machine", "memory-backend=ram", "-object", backing)


def _wait_for_status(machine: SourceMachine, question: str, good: set[str], bad: set[str]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        status = machine.monitor((question, {}))[0].get("status")
        if status in good:
            return
        if status in bad:
            break
        time.sleep(0.05)
    raise RunFailed(f"{question}: {status}", remedy=f"read {machine.folder / 'qemu.log'}")


def _key(cache: Cache) -> str:
    """What a saved memory depends on: the disk, how it is saved, QEMU itself, and its accelerator."""
    version = subprocess.run(["qemu-system-x86_64", "--version"], check=True, capture_output=True).stdout
    sources = b"".join(
        (Path(__file__).parent / name).read_bytes() for name in ("saved.py", "source.py", "drive.py", "image.py")
    )
    parts = (template_path(cache).name.encode(), version, sources, accelerator().encode())
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
