"""`dr agent log`: what the state of the site stack knows of a server's installations."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from dr.cli.main import main
from dr.errors import NotFound, PrerequisiteMissing
from dr.target.folders import Folders

ENTRY = {
    "at": "2026-11-24T06:42:10+00:00",
    "from": "anna@laptop",
    "agent": "b2339cded2fc18e92b0e51085cb825bf4793f58ca059f1004d5e4312447c2b81",
    "steps": ["folder /etc/lifeboat", "start of the agent"],
    "outcome": "done",
}
STATE = {
    "deployment": {
        "resources": [
            {"type": "pulumi:pulumi:Stack", "outputs": {}},
            {"type": "dr:index:Protection", "outputs": {"server": "shop1", "log": [ENTRY]}},
        ]
    }
}


@pytest.fixture(autouse=True)
def pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Pulumi CLI that knows one stack."""
    (tmp_path / "state.json").write_text(json.dumps(STATE))
    Folders(tmp_path / "local").state.mkdir(parents=True)
    program = tmp_path / "pulumi"
    program.write_text(
        '#!/bin/sh\ncase "$*" in *ls*) echo \'[{"name": "site-local"}]\';; '
        f"*export*site-local*) cat {tmp_path}/state.json;; *) exit 9;; esac\n"
    )
    program.chmod(0o755)
    values = {"LIFEBOAT_LOCAL": str(tmp_path / "local"), "LIFEBOAT_CACHE": str(tmp_path), "HOME": str(tmp_path)}
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    monkeypatch.setattr(os, "environ", {**os.environ, **values, "PATH": path})


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    try:
        main(["agent", "log", *arguments])
        code = 0
    except SystemExit as left:
        code = int(left.code or 0)
    said = capsys.readouterr()
    return code, said.out + said.err


def test_each_run_with_its_steps(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "shop1") == (
        0,
        "2026-11-24T06:42:10+00:00  anna@laptop  agent b2339cded2fc  done\n"
        "    folder /etc/lifeboat\n    start of the agent\n",
    )
    code, said = run(capsys, "shop1", "--json")
    assert (code, json.loads(said)) == (0, {"server": "shop1", "log": [ENTRY]})


def test_a_server_that_is_not_protected(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(capsys, "shop2", "--json")
    assert (code, json.loads(said)["error"]["code"]) == (NotFound.exit_code, "server-not-protected")


def test_before_there_is_anything(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "local")
    code, said = run(capsys, "shop1")
    assert code == PrerequisiteMissing.exit_code
    assert "target local is not there" in said and "dr local up" in said
