"""The set-up: what is committed has no addresses, what is missing is named, what is done is done in no time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tools.setup import packages
from tools.setup.agent_wheels import LIBRARY, MACHINES, PYTHONS, locked_lines
from tools.setup.azurite import LOCKED
from tools.setup.lock import ADDRESS
from tools.setup.paths import AZURITE_VERSION, BLOCKSYNC_LOCK, CHECKOUT, LOCK, PULUMI_VERSION, UV_VERSION, Cache
from tools.setup.pulumi_cli import MODULES, PROGRAMS
from tools.setup.python_environment import UV_LOCK


@pytest.mark.parametrize(
    "lock", [LOCK, UV_LOCK, BLOCKSYNC_LOCK, LOCKED / "package-lock.json"], ids=lambda path: path.name
)
def test_locks_have_sums_and_no_addresses(lock: Path) -> None:
    text = lock.read_text()
    assert not ADDRESS.search(text)
    assert "sha256:" in text or '"integrity"' in text


def test_every_locked_library_has_a_sum() -> None:
    for lock in (LOCK, UV_LOCK, BLOCKSYNC_LOCK):
        blocks = re.split(r"^(?=[a-z0-9])", lock.read_text(), flags=re.MULTILINE)
        assert all("--hash=sha256:" in block for block in blocks if "==" in block)


def test_versions_agree_everywhere() -> None:
    assert f'"azurite": "{AZURITE_VERSION}"' in (LOCKED / "package.json").read_text()
    assert f"github.com/pulumi/pulumi/pkg/v3 v{PULUMI_VERSION}\n" in (MODULES / "cli/go.mod").read_text()
    assert UV_LOCK.read_text().startswith(f"uv=={UV_VERSION} ")
    assert f"PULUMI_VERSION := {PULUMI_VERSION}\n" in (CHECKOUT / "Makefile").read_text()


def test_locked_lines_end_with_the_last_sum() -> None:
    pinned = "lz4==4.4.5 \\\n    --hash=sha256:11 \\\n    --hash=sha256:22\n"
    assert locked_lines(f"a==1 \\\n    --hash=sha256:00\n{pinned}z==2 \\\n    --hash=x\n", "lz4") == pinned


def test_the_cache_holds_what_the_product_expects() -> None:
    cache = Cache.from_environment()
    assert (cache.azurite / "node_modules/.bin/azurite-blob").exists()
    assert all((cache.pulumi / "bin" / name).exists() for name in PROGRAMS)
    wheels = [p.name for p in cache.agent_wheels.glob(f"{LIBRARY}-*.whl")]
    for python in PYTHONS:
        for machine in MACHINES:
            assert [w for w in wheels if f"-cp{python.replace('.', '')}-" in w and w.endswith(f"{machine}.whl")]


def test_the_cache_follows_the_environment(tmp_path: Path) -> None:
    assert Cache.from_environment({"LIFEBOAT_CACHE": str(tmp_path)}).root == tmp_path
    assert Cache.from_environment({}).root == Path.home() / ".cache/lifeboat"


def test_nothing_is_missing_here() -> None:
    assert packages.missing_packages() == ()


def test_missing_packages_are_named_and_the_exit_code_is_4(tmp_path: Path) -> None:
    """On a machine without dpkg's answers, everything is missing; without apt nothing can be installed."""
    environment = {**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "tools.setup"]
    result = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 4
    assert "apt-get install --no-install-recommends qemu-system-x86 " in result.stderr
    assert all(name in result.stderr for name in packages.NEEDED)


def test_a_second_run_takes_no_time_and_no_network() -> None:
    """In a network namespace of its own, where not even loopback is up."""
    begun = time.monotonic()
    command = [
        "unshare",
        *([] if os.geteuid() == 0 else ["--map-root-user"]),
        "--net",
        sys.executable,
        "-m",
        "tools.setup",
    ]
    result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert len(lines) == 7
    assert all("ok, already there" in line for line in lines), result.stdout
    assert time.monotonic() - begun < 5  # alone it is below a second


def test_a_cache_that_cannot_be_written_is_named_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "tools.setup"],
        env={**os.environ, "LIFEBOAT_CACHE": str(tmp_path / "file" / "cache")},
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
    assert "Not a directory" in done.stderr and "LIFEBOAT_CACHE" in done.stderr
