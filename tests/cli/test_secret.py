"""`dr secret put`: kept sealed, never shown, never over what is ours."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from dr.cli.main import main
from dr.errors import PrerequisiteMissing, Refused
from dr.target.folders import LOCAL_SUBSCRIPTION
from dr.target.secrets import key_store


@pytest.fixture(autouse=True)
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"LIFEBOAT_LOCAL": str(tmp_path / "local"), "PULUMI_CONFIG_PASSPHRASE": "break glass"}
    monkeypatch.setattr(os, "environ", {**os.environ, **values})


def put(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, typed: bytes, *arguments: str
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed)))
    try:
        main(["secret", "put", *arguments])
        code = 0
    except SystemExit as left:
        code = int(left.code or 0)
    said = capsys.readouterr()
    assert typed.decode().strip() not in said.out + said.err or not typed.strip()
    return code, said.out + said.err


def test_a_secret_is_kept_sealed_and_never_shown(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert put(capsys, monkeypatch, b"hush-hush\n", "shop1-sudo")[0] == 0
    assert key_store(LOCAL_SUBSCRIPTION).get("shop1-sudo") == b"hush-hush"
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"hush" in path.read_bytes()]
    code, said = put(capsys, monkeypatch, b"other-word\n", "shop1-sudo", "--json")
    assert (code, json.loads(said)["error"]["code"]) == (Refused.exit_code, "secret-exists")
    assert put(capsys, monkeypatch, b"other-word\n", "shop1-sudo", "--replace")[0] == 0
    assert key_store(LOCAL_SUBSCRIPTION).get("shop1-sudo") == b"other-word"


@pytest.mark.parametrize("name", ["ca-harbour", "storage-drharbour", "../x", "A"])
def test_names_that_are_ours_or_none_are_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert put(capsys, monkeypatch, b"hush-hush\n", name, "--replace")[0] == Refused.exit_code


@pytest.mark.parametrize("typed", [b"", b"\n", b"hush\nhush\n", b"h" * 2000, b"hu\0sh\n", b"hu\rsh\n"])
def test_what_is_no_line_is_no_secret(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, typed: bytes
) -> None:
    code, said = put(capsys, monkeypatch, typed, "shop1-sudo")
    assert (code, "one line" in said) == (PrerequisiteMissing.exit_code, True)


def test_what_no_reader_takes_is_refused_when_it_is_put(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"p\xff\n")))
    with pytest.raises(SystemExit) as left:
        main(["secret", "put", "shop1-sudo"])
    assert left.value.code == PrerequisiteMissing.exit_code
    assert "is no text in UTF-8" in capsys.readouterr().err
