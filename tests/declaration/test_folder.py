"""Reading a folder: what counts, what is reported, and that nothing is passed over in silence."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dr.errors import DeclarationInvalid
from dr.model import Firmware, HealthCheck
from dr.schema import check, load
from tests.declaration.estate import FILES


@pytest.fixture
def plans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = Path("plans")
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


def lines(folder: Path) -> list[str]:
    return [str(finding) for finding in check(folder)]


def test_load_completes_with_defaults(plans: Path) -> None:
    declaration = load(plans)
    assert declaration.site.configuration_server.port == 443
    assert [p.port for p in declaration.site.process_servers] == [9443, 9444]
    assert list(declaration.servers) == ["db1", "web1"]
    assert declaration.servers["web1"].ssh.port == 22
    assert declaration.servers["web1"].ssh.host_key.count(" ") == 1
    assert declaration.servers["web1"].target.name == "web1"
    assert declaration.servers["db1"].target.firmware is Firmware.UEFI
    assert declaration.servers["db1"].target.tags == {}
    assert declaration.plans["shop"].groups[1].checks == (
        HealthCheck("web1", "http", 8080, "/health", 200, "ok", 600),
        HealthCheck("web1", "tcp", 22, "/", 200, None, 300),
    )


def test_load_raises_with_every_line(plans: Path) -> None:
    (plans / "servers.yaml").write_text(FILES["servers.yaml"].replace("policy: standard", "policy: standart"))
    with pytest.raises(DeclarationInvalid) as raised:
        load(plans)
    assert raised.value.message == (
        'plans/servers.yaml:8:9: unknown policy "standart" (did you mean "standard"?)\n'
        'plans/servers.yaml:28:9: unknown policy "standart" (did you mean "standard"?)'
    )
    assert raised.value.exit_code == 3


def test_how_documents_are_spread_over_files_makes_no_difference(plans: Path) -> None:
    declared = load(plans)
    for name in FILES:
        (plans / name).unlink()
    (plans / "all").mkdir()
    (plans / "all" / "estate.yaml").write_text("---\n".join(reversed(FILES.values())) + "---\n# nothing here\n")
    assert load(plans) == declared


def test_folder_that_is_missing_empty_or_a_file(plans: Path) -> None:
    (plans / "empty").mkdir()
    assert lines(plans / "empty") == ["plans/empty:1:1: no *.yaml file in this folder"]
    assert lines(plans / "gone") == ["plans/gone:1:1: no such folder"]
    assert lines(plans / "site.yaml") == ["plans/site.yaml:1:1: this is no folder; name the folder of the declaration"]


def test_files_without_a_document_declare_nothing(plans: Path) -> None:
    for name in FILES:
        (plans / name).write_text("# to be written\n---\n")
    assert lines(plans) == ["plans:1:1: no Site is declared; a declaration has exactly one, add it"]


def test_files_that_would_be_passed_over_are_named(plans: Path) -> None:
    (plans / "servers.yaml").rename(plans / "servers.yml")
    assert lines(plans) == ["plans/servers.yml:1:1: not read: rename it to servers.yaml"]


def test_hidden_files_and_other_files_do_not_count(plans: Path) -> None:
    (plans / ".old").mkdir()
    (plans / ".old" / "site.yaml").write_text("nonsense")
    (plans / ".site.yaml").write_text("nonsense")
    (plans / "notes.md").write_text("nonsense")
    assert lines(plans) == []


def test_what_is_no_file_is_named_and_not_opened(plans: Path) -> None:
    os.mkfifo(plans / "pipe.yaml")
    (plans / "folder.yaml").mkdir()
    (plans / "link.yaml").symlink_to("gone")
    assert lines(plans) == [
        "plans/folder.yaml:1:1: this is no file",
        "plans/link.yaml:1:1: the file that it links to is gone",
        "plans/pipe.yaml:1:1: this is no file",
    ]


def test_a_file_name_that_is_not_utf_8_can_be_printed(plans: Path) -> None:
    Path(os.fsdecode(b"plans/\xff.yaml")).write_text("kind: Sites\n")
    (line,) = lines(plans)
    assert (
        line.encode()
        == (
            'plans/�.yaml:1:7: unknown kind "Sites"; kinds are Site, ReplicationPolicy, Server, RecoveryPlan'
            ' (did you mean "Site"?)'
        ).encode()
    )
