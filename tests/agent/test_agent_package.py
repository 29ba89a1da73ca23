"""The agent's package: the same bytes each time, runs alone, and loads lz4 from a folder that only root can change."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dr.cli.agent import agent
from dr.errors import PrerequisiteMissing
from dr.push.package import PYTHONS, build_package
from tests.agent.protected import MIB, Protected, wait_for
from tests.agent.whole_site import Site

LOAD = """
import sys
sys.path.insert(0, sys.argv[1])
from agent.native import provide_lz4
provide_lz4(sys.argv[2])
import agent.engine, lz4.block
print(lz4.block.__file__)
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("package") / "lifeboat-agent.pyz"
    digest = build_package(path)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    return path


def test_the_same_inputs_give_the_same_bytes(package: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(agent, ["package", "--output", str(tmp_path / "a.pyz"), "--json"])
    assert json.loads(result.output)["sha256"] == hashlib.sha256(package.read_bytes()).hexdigest()


def test_it_runs_alone_and_probes_without_changing_anything(package: Path) -> None:
    command = [sys.executable, "-I", str(package), "probe", "--config", "/nonexistent"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd="/", env={"PATH": os.environ["PATH"]}
    )
    facts = json.loads(done.stdout)
    assert {"python", "tracefs", "openssl", "disks", "firmware", "product_uuid", "mounts", "boot_id"} <= set(facts)


def load(package: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-c", LOAD, str(package), str(folder)], capture_output=True, text=True, check=False
    )


def test_lz4_is_unpacked_for_root_only_and_repaired(package: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    loaded = Path(load(package, folder).stdout.strip())
    assert folder in loaded.parents
    assert all(path.stat().st_mode & 0o077 == 0 for path in [folder, *folder.rglob("*")] if path.is_dir())
    content = loaded.read_bytes()
    loaded.chmod(0o700)
    loaded.write_text("raise SystemExit('changed')")
    assert load(package, folder).returncode == 0
    assert loaded.read_bytes() == content


def test_a_folder_that_others_can_change_is_refused(package: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir()
    folder.chmod(0o777)
    assert "could be changed by others" in load(package, folder).stderr
    folder.rmdir()
    folder.symlink_to(tmp_path)
    assert "could be changed by others" in load(package, folder).stderr


@pytest.mark.real
@pytest.mark.timeout(120)
def test_the_package_replicates_and_cuts(package: Path, protected: Protected, site: Site) -> None:
    protected.command = [sys.executable, "-I", str(package)]
    mount = protected.mount(protected.disk("os", 64 * MIB))
    protected.start()
    protected.wait_mode("delta", 60)
    cut = site.request_cut()
    wait_for("the point", lambda: site.cut(cut)["state"] == "point", 60)
    assert site.manifests()[-1]["frozen"] == [str(mount)]


def test_a_missing_wheel_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIFEBOAT_CACHE", str(tmp_path))
    with pytest.raises(PrerequisiteMissing, match=PYTHONS[0]):
        build_package(tmp_path / "a.pyz")
