"""The stacks' state in a blob container, as target azure keeps it, by the real CLI on Azurite."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from azure.storage.blob import ContainerClient

from dr.local.environment import environment
from dr.local.stacks import PASSPHRASE, Binding, prepare_stack
from dr.target.backend import Backend
from dr.target.choice import AZURE
from dr.target.folders import Folders
from tests.vault.azurite import Azurite, running_azurite

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
STACK = "site-azure"
BINDING = Binding("3f2b1c5e-7a64-4c1d-9d5b-0a1b2c3d4e5f", "westeurope", "harbour", PASSPHRASE)


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with running_azurite(tmp_path_factory.mktemp("azurite")) as running:
        yield running


def test_a_fresh_checkout_takes_the_states_encryption_from_the_container(azurite: Azurite, tmp_path: Path) -> None:
    folders = Folders(tmp_path / "local")
    backend = Backend(f"azblob://state?domain=127.0.0.1:{azurite.port}&protocol=http&localemu=true", "", "")
    variables = {
        **environment(AZURE, folders, backend=backend),
        "PULUMI_HOME": str(tmp_path / "home"),
        "PULUMI_CONFIG_PASSPHRASE": "horses eat little else",
        # Azurite has no login that the CLI's driver would take over http.
        "AZURE_STORAGE_ACCOUNT": azurite.account,
        "AZURE_STORAGE_KEY": azurite.key,
    }

    def prepared(name: str) -> tuple[bool, dict[str, object]]:
        project = tmp_path / name
        project.mkdir(exist_ok=True)
        (project / "Pulumi.yaml").write_text("name: lifeboat\nruntime: yaml\n")
        made = prepare_stack(STACK, project=project, environment=variables, binding=BINDING, folders=folders)
        return made, yaml.safe_load((project / f"Pulumi.{STACK}.yaml").read_text())

    made, first = prepared("first")
    assert made
    with ContainerClient(f"{azurite.url}", "state", credential=azurite.credential) as container:
        assert f".pulumi/stacks/lifeboat/{STACK}.json" in list(container.list_blob_names())
    made, again = prepared("first")
    assert (made, again) == (False, first)
    made, fresh = prepared("second")
    assert (made, fresh) == (False, first)
    assert fresh["config"] == {
        "azure-native:subscriptionId": BINDING.subscription,
        "azure-native:location": "westeurope",
        "dr:site": "harbour",
    }
    secret = subprocess.run(
        ["pulumi", "config", "set", "--secret", "dr:x", "y", "--stack", STACK],
        cwd=tmp_path / "second",
        env={**os.environ, **variables},
        check=False,
        capture_output=True,
        text=True,
    )
    assert secret.returncode == 0, secret.stderr
    assert (
        yaml.safe_load((tmp_path / "second" / f"Pulumi.{STACK}.yaml").read_text())["encryptionsalt"]
        == first["encryptionsalt"]
    )
    assert not (tmp_path / "local").exists()
