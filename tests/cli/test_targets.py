"""Which target a command means, `dr env` for both, and `dr bootstrap` as far as it asks nobody."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from dr.cli.bootstrap import in_azure
from dr.cli.main import main
from dr.cli.target import Chosen
from dr.errors import Refused
from dr.local.environment import environment
from dr.local.foundation import lay, make_stacks
from dr.schema import load
from dr.target.choice import LOCAL, told
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders
from stacks.dispatch import tie_to_target
from tests.target.fake_azure import FakeAzure

CHECKOUT = Path(__file__).resolve().parents[2]
SCHEMA = Draft202012Validator(json.loads((CHECKOUT / "docs/formats/bootstrap.schema.json").read_text()))
SUBSCRIPTION = "3f2b1c5e-7a64-4c1d-9d5b-0a1b2c3d4e5f"
Say = Callable[..., dict[str, Any]]


@pytest.fixture
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a declaration of its own; the environment says nothing else, and is afterwards what it was before."""
    before = dict(os.environ)
    folder = tmp_path / "plans"
    folder.mkdir()
    for file in (CHECKOUT / "plans").glob("*.yaml"):
        (folder / file.name).write_text(file.read_text())
    for name in ("LIFEBOAT_TARGET", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LIFEBOAT_PLANS", str(folder))
    monkeypatch.setenv("LIFEBOAT_LOCAL", str(tmp_path / "local"))
    yield folder
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], plans: Path) -> Say:
    def said(*arguments: str) -> dict[str, Any]:
        with suppress(SystemExit):
            main([*arguments, "--json"])
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        return document

    return said


def declare(plans: Path, subscription: str) -> None:
    site = plans / "site.yaml"
    text = site.read_text()
    assert "target: local" in text
    site.write_text(text.replace("target: local", f"target: azure\nsubscription: {subscription}"))


def test_the_flag_goes_before_the_variable_and_the_variable_before_the_declaration(
    say: Say, plans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert say("env")["LIFEBOAT_TARGET"] == "local"
    declare(plans, SUBSCRIPTION)
    azure = say("env")
    assert azure["LIFEBOAT_TARGET"] == "azure"
    assert azure["PULUMI_BACKEND_URL"].startswith("azblob://state?storage_account=stlbst")
    assert azure["LIFEBOAT_SECRETS_PROVIDER"].startswith("azurekeyvault://kv-lbs-harbour-")
    monkeypatch.setenv("LIFEBOAT_TARGET", "local")
    assert say("env")["LIFEBOAT_TARGET"] == "local"
    assert say("env", "--target", "azure") == azure
    monkeypatch.setenv("LIFEBOAT_TARGET", "moon")
    assert say("env")["error"]["message"] == 'LIFEBOAT_TARGET is "moon"'
    with pytest.raises(Refused):
        told(None, {"LIFEBOAT_TARGET": "moon"})


def test_local_needs_no_declaration_and_azure_needs_a_subscription_of_its_own(
    say: Say, plans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert say("env", "--target", "azure")["error"]["code"] == "subscription-missing"
    declare(plans, LOCAL_SUBSCRIPTION)
    assert say("points", "shop1")["error"]["code"] == "refused"
    monkeypatch.setenv("LIFEBOAT_PLANS", str(plans / "nowhere"))
    assert say("env")["LIFEBOAT_TARGET"] == "local"


@pytest.mark.parametrize(("target", "subscription"), [("azure", LOCAL_SUBSCRIPTION), ("local", SUBSCRIPTION)])
def test_a_stack_of_one_target_refuses_the_subscription_of_the_other(target: str, subscription: str) -> None:
    with pytest.raises(Refused, match=f"belongs to target {target}"):
        tie_to_target(target, subscription)
    tie_to_target("azure", SUBSCRIPTION)
    tie_to_target("local", LOCAL_SUBSCRIPTION)


def test_the_place_of_the_local_state_is_made_once(say: Say, tmp_path: Path) -> None:
    before = say("bootstrap", "--dry-run")
    SCHEMA.validate(before)
    assert {step["state"] for step in before["steps"]} == {"would be made"}
    folders = Folders(tmp_path / "local")
    assert not folders.root.exists()
    assert [state for _, _, state in lay(folders, dry_run=False)] == ["made", "made", "made"]
    secret = folders.envelope.read_bytes()
    assert folders.envelope.stat().st_mode & 0o077 == 0
    assert [state for _, _, state in lay(folders, dry_run=False)] == ["there", "there", "there"]
    assert folders.envelope.read_bytes() == secret
    after = say("bootstrap", "--dry-run")
    assert [step["state"] for step in after["steps"]][:3] == ["there", "there", "there"]


@pytest.mark.real
def test_the_local_stacks_are_made_once(plans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folders, project = Folders(tmp_path / "local"), tmp_path / "project"
    project.mkdir()
    (project / "Pulumi.yaml").write_text("name: lifeboat\nruntime: yaml\n")
    variables = environment(LOCAL, folders)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    list(lay(folders, dry_run=False))

    def made(*, dry_run: bool) -> dict[str, str]:
        stacks = make_stacks(
            load(plans), LOCAL, project=project, environment=variables, folders=folders, dry_run=dry_run
        )
        return dict(stacks)

    names = ["vault-local", "site-local", "failover-shop-local"]
    assert made(dry_run=True) == dict.fromkeys(names, "would be made")
    assert made(dry_run=False) == dict.fromkeys(names, "made")
    assert made(dry_run=False) == made(dry_run=True) == dict.fromkeys(names, "there")
    listed = subprocess.run(["pulumi", "stack", "ls", "--json"], cwd=project, capture_output=True, check=True)
    assert {one["name"] for one in json.loads(listed.stdout)} == set(names)


def test_the_steps_in_azure_are_told_as_the_schema_says() -> None:
    fake, declaration = FakeAzure(SUBSCRIPTION), load(CHECKOUT / "plans")
    declaration = replace(declaration, site=replace(declaration.site, subscription=SUBSCRIPTION))
    chosen = Chosen("azure", declaration, SUBSCRIPTION)
    second = "11111111-2222-3333-4444-555555555555"
    for expected in ("made", "there"):
        steps = list(in_azure(fake.azure(), chosen, (second,), dry_run=False))
        assert {step["state"] for step in steps} == {expected}
        SCHEMA.validate({"target": "azure", "dry_run": False, "steps": steps, "state_url": "", "secrets_provider": ""})
    assert sum(second in step["what"] for step in steps) == 2


def test_an_operator_that_is_no_object_id_is_refused_before_anything_is_made(plans: Path) -> None:
    declare(plans, SUBSCRIPTION)
    fake = FakeAzure(SUBSCRIPTION)
    chosen = Chosen("azure", load(plans), SUBSCRIPTION)
    with pytest.raises(Refused) as refused:
        list(in_azure(fake.azure(), chosen, ("anna@example.org",), dry_run=False))
    assert refused.value.code == "operator-invalid" and "az ad user show" in refused.value.remedy
    assert fake.asked == []
