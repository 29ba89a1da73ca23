"""`dr agent package`: the file for everybody, a folder for each server, and what stands against one of them."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from pathlib import Path

import pytest

from dr.cli.main import main
from dr.errors import NotFound, Refused
from dr.target.folders import Folders
from tests.certificates.holders import site_certificates

PLANS = Path(__file__).parents[2] / "plans"


@pytest.fixture(autouse=True)
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"LIFEBOAT_LOCAL": str(tmp_path / "local"), "LIFEBOAT_PLANS": str(PLANS)}
    monkeypatch.setattr(os, "environ", {**os.environ, **values})
    Folders.from_environment().site.mkdir(parents=True)
    site_certificates(Folders.from_environment().site, "harbour")


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    try:
        main(["agent", "package", *arguments])
        code = 0
    except SystemExit as left:
        code = int(left.code or 0)
    said = capsys.readouterr()
    return code, said.out + said.err


def test_the_file_alone_is_the_same_each_time(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, said = run(capsys, "--output", str(tmp_path / "bundle"))
    file = tmp_path / "bundle" / "lifeboat-agent.pyz"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (code, said) == (0, f"{digest}  {file}\n")
    assert run(capsys, "--output", str(tmp_path / "bundle")) == (code, said)


def test_each_server_is_asked_first(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    code, said = run(capsys, "shop1", "--output", str(folder))
    assert code == 0
    assert f"shop1: as root there `sh ask.sh >answer.txt`; bring it to {folder / 'shop1'}, call this again" in said
    assert sorted(each.name for each in (folder / "shop1").iterdir()) == ["ask.sh", "remove.sh"]
    code, said = run(capsys, "shop1", "--output", str(folder), "--json")
    assert (code, json.loads(said)["servers"]) == (0, {"shop1": {"state": "asked", "message": "", "concerns": []}})


def test_what_stands_against_it_is_the_exit_code(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The answer is that of a machine that holds none of the declared disks: this one, asked without root."""
    folder = tmp_path / "bundle"
    run(capsys, "shop1", "--output", str(folder))
    words = (folder / "shop1" / "ask.sh").read_text().split()
    nonce = next(word[word.index("==") :] for word in words if "==lifeboat-" in word)
    names = [after for word, after in itertools.pairwise(words) if word == "begin"]
    names = [name.removesuffix("\\n';").removesuffix("\\n'") for name in names]
    answer = "".join(f"\n{nonce} begin {name}\n\n{nonce} end 0\n" for name in names)
    (folder / "shop1" / "answer.txt").write_text(answer)
    code, said = run(capsys, "shop1", "--output", str(folder))
    assert code == Refused.exit_code
    assert "dr: shop1: the agent cannot be installed, nothing was changed. These " in said
    assert "\n  disk-missing: os: /dev/disk/by-id/virtio-shop1-os is not there\n" in said
    assert not (folder / "shop1" / "install.sh").exists()
    code, said = run(capsys, "shop1", "--output", str(folder), "--json")
    assert (code, json.loads(said)["servers"]["shop1"]["state"]) == (Refused.exit_code, "blocked")


def test_a_server_that_is_not_declared(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, said = run(capsys, "shpo1", "--output", str(tmp_path))
    assert (code, 'did you mean "shop1"?' in said) == (NotFound.exit_code, True)
