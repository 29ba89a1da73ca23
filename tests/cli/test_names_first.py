"""A slip of the finger is answered about itself, not about what else is not there."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dr.cli.main import main

CHECKOUT = Path(__file__).resolve().parents[2]
Say = Callable[..., dict[str, Any]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    """The example's declaration, and neither a site nor a target."""
    monkeypatch.setenv("LIFEBOAT_PLANS", str(CHECKOUT / "plans"))
    monkeypatch.setenv("LIFEBOAT_LOCAL", str(tmp_path / "nothing"))
    for name in ("LIFEBOAT_TARGET", "PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE"):
        monkeypatch.delenv(name, raising=False)

    def said(*arguments: str) -> dict[str, Any]:
        with suppress(SystemExit):
            main([*arguments, "--json"])
        error: dict[str, Any] = json.loads(capsys.readouterr().out)["error"]
        return error

    return said


@pytest.mark.parametrize(
    "command",
    [
        ("points",),
        ("points", "--request"),
        ("resync",),
        ("compare",),
        ("agent", "log"),
        ("agent", "token", "--output", "token.pem"),
        ("agent", "package"),
        ("status",),
    ],
)
def test_a_server_that_nobody_declared(say: Say, command: tuple[str, ...], tmp_path: Path) -> None:
    error = say(*command, "shp1")
    assert error["code"] == "unknown-server"
    assert 'did you mean "shop1"?' in error["message"] + error["remedy"]
    assert not list(tmp_path.rglob("token.pem"))


@pytest.mark.parametrize("command", [("points",), ("resync",), ("compare",), ("agent", "log")])
def test_a_declared_one_is_answered_about_what_is_not_there(say: Say, command: tuple[str, ...]) -> None:
    assert say(*command, "shop1")["code"] in {"local-target-missing", "site-unreachable"}


@pytest.mark.parametrize("selector", ["yesterday", "lates", "2026-05-04T11:30:00", "shop1-1-", "2999-01-01T00:00:00Z"])
def test_a_selector_that_no_vault_could_resolve(say: Say, selector: str) -> None:
    error = say("failover", "shop", "--point", selector)
    assert error["code"] == "selector-invalid"
    assert error["remedy"]


@pytest.mark.parametrize(
    "selector", ["latest", "latest-processed", "latest-app-consistent", "shop1-1-7", "2026-05-04T11:30:00Z"]
)
def test_a_selector_that_a_vault_may_resolve(say: Say, selector: str) -> None:
    assert say("failover", "shop", "--point", selector)["code"] == "local-target-missing"


def test_a_plan_that_nobody_declared(say: Say) -> None:
    assert "shop" in say("failover", "shp", "--point", "latest")["remedy"]


def test_a_name_that_no_key_store_takes(say: Say) -> None:
    error = say("secret", "put", "Bad Name")
    assert (error["code"], "small letters" in error["remedy"]) == ("secret-name", True)
