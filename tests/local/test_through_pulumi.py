"""The stand-in under the real Pulumi CLI: found without a warning, stable, honest about what was removed by hand."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dr.local import services
from dr.local.environment import environment
from dr.local.tools import checkout
from dr.schema import load
from dr.target.choice import LOCAL
from dr.target.folders import Folders

pytestmark = pytest.mark.real

PROGRAM = """
import pulumi
from pulumi_azure_native import recoveryservices, resources
config = pulumi.Config("probe")
group = resources.ResourceGroup("rg", resource_group_name="rg", tags={"a": config.get("tag") or "1"})
recoveryservices.Vault("vault", vault_name="rsv-probe", resource_group_name=group.name,
    sku=recoveryservices.SkuArgs(name="RS0", tier="Standard"), properties=recoveryservices.VaultPropertiesArgs())
pulumi.export("location", group.location)
"""
STACK = "vault-local"


@dataclass(frozen=True)
class Project:
    folder: Path
    folders: Folders
    variables: Mapping[str, str]

    def pulumi(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["pulumi", *arguments, "--stack", STACK],
            cwd=self.folder,
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def changes(self, *arguments: str) -> dict[str, int]:
        """Return the operations of a run that are not "same"."""
        result = self.pulumi(*arguments, "--json")
        assert result.returncode == 0, result.stdout + result.stderr
        assert "ambient" not in result.stderr
        assert '"severity":"warning"' not in result.stdout
        assert "never awaited" not in result.stdout
        summary = _summary(result.stdout)
        return {kind: count for kind, count in summary.items() if kind != "same"}

    def state(self) -> dict[str, Any]:
        deployment: dict[str, Any] = json.loads(self.pulumi("stack", "export").stdout)["deployment"]
        return deployment


def _summary(said: str) -> dict[str, int]:
    """Return the change summary of a preview (one document) or of a run (that document, then one event a line)."""
    for line in said.splitlines():
        if '"summaryEvent"' in line and '"isPreview":false' in line:
            found: dict[str, int] = json.loads(line)["summaryEvent"]["resourceChanges"]
            return found
    document: dict[str, int] = json.JSONDecoder().raw_decode(said.lstrip())[0]["changeSummary"]
    return document


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    folder, folders = tmp_path_factory.mktemp("project"), Folders(tmp_path_factory.mktemp("local"))
    (folder / "Pulumi.yaml").write_text("name: probe\nruntime: python\n")
    (folder / "__main__.py").write_text(PROGRAM)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PULUMI_")]:
            patch.delenv(name)
        # `dr local up` makes the environment its own; afterwards everything is as it was.
        for name, value in environment(LOCAL, folders).items():
            patch.setenv(name, value)
        declaration = load(checkout() / "plans")
        services.up_cloud(folders, declaration, print, project=folder)
        yield Project(folder, folders, environment(LOCAL, folders))
        services.down(folders, print, stop_machines=True)


def test_the_secret_was_made_and_is_the_operators_alone(project: Project) -> None:
    assert project.folders.envelope.stat().st_mode & 0o077 == 0
    assert len(project.folders.envelope.read_text().strip()) >= 40


def test_a_life_of_a_stack(project: Project) -> None:
    assert project.changes("preview") == {"create": 3}
    assert not list(project.folders.resources.glob("*.json"))
    assert project.changes("up", "--yes") == {"create": 3}
    assert project.changes("up", "--yes") == {}
    assert len(list(project.folders.resources.glob("*.json"))) == 2
    project.pulumi("config", "set", "probe:tag", "2")
    assert project.changes("preview") == {"update": 1}
    assert project.changes("up", "--yes") == {"update": 1}
    vault = next(r for r in project.folders.resources.glob("*.json") if "rsv-probe" in r.read_text())
    vault.unlink()
    assert project.changes("refresh", "--yes") == {"delete": 1}
    assert project.changes("up", "--yes") == {"create": 1}
    assert project.changes("destroy", "--yes") == {"delete": 3}
    assert not list(project.folders.resources.glob("*.json"))


def test_a_fresh_checkout_keeps_the_states_encryption(project: Project) -> None:
    configuration = project.folder / f"Pulumi.{STACK}.yaml"
    before, salt = configuration.read_text(), project.state()["secrets_providers"]["state"]["salt"]
    configuration.unlink()
    services.up_cloud(project.folders, load(checkout() / "plans"), print, project=project.folder)
    assert salt in configuration.read_text()
    assert configuration.read_text().splitlines()[0] == before.splitlines()[0]
    project.changes("up", "--yes")
    assert project.state()["secrets_providers"]["state"]["salt"] == salt


def test_a_foreign_subscription_is_refused_in_clear_words(project: Project) -> None:
    foreign = "11111111-2222-4333-8444-555555555555"
    project.pulumi("config", "set", "azure-native:subscriptionId", foreign)
    try:
        result = project.pulumi("up", "--yes")
    finally:
        services.up_cloud(project.folders, load(checkout() / "plans"), print, project=project.folder)
    assert result.returncode != 0
    assert f"{foreign} is a foreign subscription" in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr


def test_an_error_of_the_program_is_named_without_a_traceback(project: Project) -> None:
    program = project.folder / "__main__.py"
    program.write_text(PROGRAM + 'resources.ResourceGroup("again", resource_group_name="rg", location="westeurope")\n')
    try:
        result = project.pulumi("up", "--yes")
    finally:
        program.write_text(PROGRAM)
    said = result.stdout + result.stderr
    assert "cannot create already existing resource" in said
    assert "remedy:" in said
    assert "Traceback" not in said
    assert 'File "' not in said
