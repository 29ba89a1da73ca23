"""The group `dr`: mistyped commands, errors of the system, `--json` on each of them, help that explains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from dr.cli.main import dr, main
from dr.errors import PrerequisiteMissing
from dr.plain import plain

CHECKOUT = Path(__file__).resolve().parents[2]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        main(arguments)
    said = capsys.readouterr()
    return int(left.value.code or 0), said.out, said.err


def test_a_mistyped_command_is_answered_with_the_one_meant(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "stauts")
    assert (code, out) == (2, "")
    assert 'no such command "stauts" (did you mean "status"?)' in err


def test_wrong_usage_is_an_object_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "points", "--json")
    assert (code, err) == (2, "")
    assert json.loads(out)["error"]["code"] == "usage"


def test_watching_is_no_object(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "status", "--watch", "--json")
    assert code == 2
    assert "--watch" in json.loads(out)["error"]["message"]


def test_what_the_system_refuses_is_one_line_and_a_remedy(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, out, err = run(capsys, "agent", "package", "--output", str(tmp_path / "file" / "bundle"))
    assert (code, out) == (PrerequisiteMissing.exit_code, "")
    assert err.startswith(f"dr: {tmp_path / 'file' / 'bundle'}: ")
    assert "remedy: " in err
    assert "Traceback" not in err


def test_a_failover_without_a_local_target_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {**os.environ, "LIFEBOAT_LOCAL": str(tmp_path / "nothing")})
    code, out, _ = run(capsys, "failover", "shop", "--json")
    assert code == PrerequisiteMissing.exit_code
    assert json.loads(out)["error"]["code"] == "local-target-missing"
    assert not (tmp_path / "nothing").exists()


def test_what_cannot_be_seen_is_marked_and_tabs_are_spaces() -> None:
    assert plain("a\n\tb\x1b[2J") == "a\n    b�[2J"


def commands(group: click.Group, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*above, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))


def test_each_command_and_each_option_is_explained() -> None:
    for name, command in commands(dr):
        assert command.help, name
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, (name, option.name)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_can_complete_commands(shell: str) -> None:
    words = {"bash": {"COMP_WORDS": "dr fail", "COMP_CWORD": "1"}, "zsh": {"COMP_WORDS": "dr fail", "COMP_CWORD": "1"}}
    asked = words.get(shell, {"COMP_WORDS": "dr fail", "COMP_CWORD": "fail"})
    variables = {**os.environ, **asked, "_DR_COMPLETE": f"{shell}_complete", "PYTHONPATH": str(CHECKOUT)}
    said = subprocess.run([sys.executable, "-m", "dr"], env=variables, capture_output=True, text=True, check=False)
    assert "failover" in said.stdout
