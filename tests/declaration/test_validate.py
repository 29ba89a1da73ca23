"""`dr validate` as a person and a program use it, and the files that are published from the definition."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from dr.schema import load, publish
from tests.declaration.estate import FILES, broken, whole_files

ROOT = Path(__file__).parents[2]


def validate(*arguments: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dr", "validate", *arguments],
        cwd=cwd,
        env={k: v for k, v in os.environ.items() if k != "LIFEBOAT_PLANS"} | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def report(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Return the JSON of a run after checking it against the published schema."""
    found: dict[str, Any] = json.loads(run.stdout)
    schema = json.loads((ROOT / "docs/formats/validate.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(found)
    return found


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def test_the_example_is_well_and_is_the_default(tmp_path: Path) -> None:
    run = validate(cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.endswith(
        "plans: 1 site, 1 replication policy, 1 server, 1 disk, 1 recovery plan, no errors\n",
    )


def test_json_of_a_well_declaration(tmp_path: Path) -> None:
    plans = write(tmp_path / "plans", FILES)
    run = validate("--json", LIFEBOAT_PLANS=str(plans))
    assert run.returncode == 0
    assert report(run) == {
        "folder": str(plans),
        "valid": True,
        "counts": {"sites": 1, "replication_policies": 1, "servers": 2, "disks": 3, "recovery_plans": 1},
        "findings": [],
        "concerns": [],
    }


def test_concerns_are_lines_on_stdout_and_leave_exit_code_0(tmp_path: Path) -> None:
    write(tmp_path / "plans", FILES | {"plans.yaml": "kind: RecoveryPlan\nname: shop\ngroups: [{servers: [db1]}]\n"})
    run = validate("plans", cwd=tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.splitlines() == [
        'plans/servers.yaml:2:7: server-in-no-plan: server "web1" is in no recovery plan: no run recovers it'
        " (remedy: add it to a group of a RecoveryPlan)",
        "plans: 1 site, 1 replication policy, 2 servers, 3 disks, 1 recovery plan, no errors, 1 concern",
    ]


def test_json_of_concerns(tmp_path: Path) -> None:
    write(tmp_path / "plans", whole_files())
    found = report(validate("plans", "--json", cwd=tmp_path))
    assert (found["valid"], found["findings"]) == (True, [])
    assert found["concerns"][0] == {
        "code": "not-acted-upon",
        "file": "plans/plans.yaml",
        "line": 3,
        "column": 1,
        "message": '"objectives" is checked and kept, and nothing is done with it yet',
        "remedy": "don't rely on it before this comes: drills and their evidence",
    }


def test_the_schema_of_the_output_knows_every_concern() -> None:
    schema = json.loads((ROOT / "docs/formats/validate.schema.json").read_text())
    known = schema["properties"]["concerns"]["items"]["properties"]["code"]["enum"]
    code = (ROOT / "dr/schema/concerns.py").read_text()
    assert set(known) == set(re.findall(r'^ +"([a-z-]+)",$', code, re.MULTILINE))


def test_errors_are_lines_on_stdout_and_exit_code_3(tmp_path: Path) -> None:
    case = next(case for case in broken() if case.title == "many files, many errors")
    write(tmp_path / "plans", case.files())
    run = validate("plans", cwd=tmp_path)
    assert run.returncode == 3
    assert run.stdout.splitlines() == [f"plans/{line}" for line in case.errors]
    assert run.stderr.splitlines() == [
        "dr: 5 errors in plans",
        "    remedy: correct the lines named above and run `dr validate` again",
    ]


def test_json_of_errors(tmp_path: Path) -> None:
    case = next(case for case in broken() if case.title == "unknown policy")
    write(tmp_path / "plans", case.files())
    run = validate("plans", "--json", cwd=tmp_path)
    assert run.returncode == 3
    found = report(run)
    assert found["findings"] == [
        {
            "file": "plans/servers.yaml",
            "line": 28,
            "column": 9,
            "message": 'unknown policy "standart"',
            "suggestion": "standard",
        }
    ]
    assert found["error"]["code"] == "declaration-invalid"


def test_missing_folder_is_a_finding_too(tmp_path: Path) -> None:
    run = validate("nowhere", "--json", cwd=tmp_path)
    assert run.returncode == 3
    assert report(run)["findings"][0]["message"] == "no such folder"


def test_no_pulumi_is_loaded() -> None:
    code = "import sys, dr.cli.validate, dr.compile; sys.exit('pulumi' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=30).returncode == 0


def test_published_files_are_current() -> None:
    remedy = "run `python -m dr.schema.publish`"
    assert (ROOT / "plans/schema.json").read_text() == publish.schema_text(), remedy
    assert (ROOT / "docs/declaration.md").read_text() == publish.reference(), remedy


def test_editors_find_and_agree_with_the_schema() -> None:
    schema = publish.editor_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    for file in (ROOT / "plans").rglob("*.yaml"):
        first = file.read_text().splitlines()[0]
        assert first.startswith("# yaml-language-server: $schema=")
        assert (file.parent / first.split("=", 1)[1]).resolve() == ROOT / "plans" / "schema.json"
        for document in yaml.safe_load_all(file.read_text()):
            validator.validate(document)
    for text in whole_files().values():
        for document in yaml.safe_load_all(text):
            validator.validate(document)
    assert not validator.is_valid({"kind": "Server", "name": "x"})
    assert not validator.is_valid({"kind": "Sever", "name": "x"})


def test_the_example_is_what_the_demo_expects() -> None:
    declaration = load(ROOT / "plans")
    server, (check,) = declaration.servers["shop1"], declaration.plans["shop"].groups[0].checks
    assert (server.ssh.address, server.ssh.user, server.ssh.key_env) == ("127.0.0.1", "dradmin", "LIFEBOAT_SSH_KEY")
    assert [disk.device for disk in server.disks] == ["/dev/disk/by-id/virtio-shop1-os"]
    assert (server.target.address, check.kind, check.port) == ("10.20.1.10", "http", 8080)
    text = "".join(file.read_text() for file in sorted((ROOT / "plans").glob("*.yaml")))
    for value in ("port: 2222", "port: 8443", "port: 9443", server.ssh.host_key):
        assert text.count(value) == 1, f"{value} must be easy to replace"


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_says_what_it_does(word: str) -> None:
    run = validate(word)
    assert run.returncode == 0
    for said in ("LIFEBOAT_PLANS", "FILE:LINE:COLUMN", "Exit codes: 0", "docs/declaration.md"):
        assert said in run.stdout
