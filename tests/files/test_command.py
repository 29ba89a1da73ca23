"""`dr files` as a person calls it, on a vault in a real Azurite: JSON, exit codes, remedies, what Ctrl-C leaves."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from jsonschema import Draft202012Validator

from dr.compile import names
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders
from dr.target.secrets import FolderKeyStore
from dr.vault.manifest import Manifest
from tests.agent.protected import wait_for
from tests.files.images import MIB, PointWriter, extfs, mbr, small_tree
from tests.vault.azurite import Azurite, running_azurite

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]

CHECKOUT = Path(__file__).parents[2]
SCHEMA = Draft202012Validator(json.loads((CHECKOUT / "docs/formats/files.schema.json").read_text()))
PASSPHRASE = "a horse, a kingdom"
ROOT = UUID("11111111-2222-4333-8444-555555555555")
ACCOUNT = names.storage_account("harbour", LOCAL_SUBSCRIPTION)
HUGE_BYTES = 24 * MIB


@dataclass(frozen=True)
class Vault:
    """A vault with two points of shop1; `content` is what the second one holds."""

    azurite: Azurite
    environment: dict[str, str]
    points: list[Manifest]
    content: Path

    def start(self, *arguments: str, folder: Path) -> subprocess.Popen[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PULUMI", "LIFEBOAT"))}
        return subprocess.Popen(
            [sys.executable, "-m", "dr", "files", *arguments],
            cwd=folder,
            env={**inherited, **self.environment, "PYTHONPATH": str(CHECKOUT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, folder: Path) -> tuple[int, str, str]:
        with self.start(*arguments, folder=folder) as process:
            out, errors = process.communicate(timeout=120)
        return process.returncode, out, errors

    def json(self, *arguments: str, folder: Path) -> tuple[int, dict[str, Any]]:
        code, out, errors = self.run(*arguments, "--json", folder=folder)
        assert out, errors
        document: dict[str, Any] = json.loads(out)
        SCHEMA.validate(document)
        assert (code == 0) == ("error" not in document), document
        return code, document

    def refused(self, *arguments: str, folder: Path) -> tuple[int, str, str]:
        """Return exit code, code and remedy of a call that must fail, and see that nothing was written."""
        before = sorted(folder.rglob("*"))
        code, document = self.json(*arguments, folder=folder)
        assert set(document) == {"error"}, document
        assert sorted(folder.rglob("*")) == before
        return code, document["error"]["code"], document["error"]["remedy"]


@pytest.fixture(scope="module")
def vault(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Vault]:
    root = tmp_path_factory.mktemp("files")
    content = small_tree(root / "content", f"UUID={ROOT} / ext4 defaults 0 1\n")
    (content / "srv/many").mkdir()
    for number in range(3):
        (content / f"srv/many/a{number}").write_text(str(number))
    (content / "srv/many/huge").write_bytes(os.urandom(HUGE_BYTES))
    os.mkfifo(content / "srv/pipe")
    first = extfs(root, "first", HUGE_BYTES + 16 * MIB, content, "-U", str(ROOT))
    (content / "etc/hostname").write_text("shop1 a day later\n")
    second = extfs(root, "second", HUGE_BYTES + 16 * MIB, content, "-U", str(ROOT))
    swap = bytes(4086) + b"SWAPSPACE2" + bytes(MIB - 4096)
    folders = Folders(root / "local")
    (root / "azurite").mkdir()
    with running_azurite(root / "azurite", ACCOUNT) as azurite:
        FolderKeyStore(folders.key_store, PASSPHRASE).put(f"storage-{ACCOUNT}", azurite.key.encode())
        folders.accounts.write_text(
            json.dumps({"endpoint": f"http://127.0.0.1:{azurite.port}", "accounts": [azurite.account]})
        )
        folders.envelope.parent.mkdir()
        folders.envelope.write_text(PASSPHRASE)
        with closing(azurite.open()) as store:
            writer = PointWriter(store, {"os": len(mbr([first, swap]))})
            points = [writer.point({"os": mbr([disk, swap])}, day) for day, disk in enumerate((first, second), 17)]
            writer.close()
        environment = {"LIFEBOAT_LOCAL": str(folders.root), "LIFEBOAT_PLANS": str(CHECKOUT / "plans")}
        yield Vault(azurite, environment, points, content)
        os.kill(azurite.pid, signal.SIGCONT)


def test_volumes_and_directories_are_listed(vault: Vault, tmp_path: Path) -> None:
    code, document = vault.json("ls", "shop1", folder=tmp_path)
    assert code == 0
    assert (document["point"], document["path"]) == (vault.points[1].id, None)
    assert [(v["name"], v["kind"], v["uuid"], v["problem"]) for v in document["volumes"]] == [
        ("os:1", "ext4", str(ROOT), ""),
        ("os:2", "swap", "", "it is swap"),
    ]
    code, document = vault.json("ls", "shop1", "/etc", folder=tmp_path)
    assert code == 0
    told = {entry["path"]: entry for entry in document["entries"]}
    assert list(told) == ["/etc/away", "/etc/fstab", "/etc/hostname", "/etc/name", "/etc/out"]
    assert (told["/etc/hostname"]["mode"], told["/etc/hostname"]["size_bytes"]) == ("0640", 18)
    assert told["/etc/name"]["link"] == "hostname"
    assert document["read"]["content_bytes"] < 8 * MIB
    code, out, errors = vault.run("ls", "shop1", "os:1:/etc/hostname", folder=tmp_path)
    assert code == 0
    assert out.split()[:3] == ["file", "0640", "18"]
    assert vault.points[1].id in errors


def test_each_point_hands_out_its_own_content(vault: Vault, tmp_path: Path) -> None:
    code, document = vault.json("get", "shop1", "/etc/hostname", folder=tmp_path)
    assert (code, document["target"]) == (0, str(tmp_path / "hostname"))
    assert (tmp_path / "hostname").read_text() == "shop1 a day later\n"
    for selector in (vault.points[0].id, "2026-05-17T12:00:00Z"):
        target = tmp_path / f"older-{selector[:5]}"
        code, document = vault.json(
            "get", "shop1", "/etc/hostname", "--point", selector, "-o", str(target), folder=tmp_path
        )
        assert (code, document["point"], document["written"]["files"]) == (0, vault.points[0].id, 1)
        assert target.read_text() == "shop1\n"


def test_a_directory_comes_whole_and_says_what_was_left_out(vault: Vault, tmp_path: Path) -> None:
    code, document = vault.json("get", "shop1", "/srv", folder=tmp_path)
    assert (code, document["error"]["code"]) == (7, "degraded")
    assert [(each["path"], each["code"]) for each in document["written"]["skipped"]] == [("/srv/pipe", "file-kind")]
    assert (document["written"]["files"], document["written"]["directories"]) == (5, 4)
    huge = "srv/many/huge"
    assert (tmp_path / huge).read_bytes() == (vault.content / huge).read_bytes()
    code, out, errors = vault.run("get", "shop1", "/srv/many", "-o", str(tmp_path / "srv"), folder=tmp_path)
    assert (code, out) == (6, "")
    assert "is there already" in errors and "remedy: name another target with -o" in errors


def test_nothing_is_overwritten_without_a_word(vault: Vault, tmp_path: Path) -> None:
    (tmp_path / "hostname").write_text("mine")
    code, kind, remedy = vault.refused("get", "shop1", "/etc/hostname", folder=tmp_path)
    assert (code, kind) == (6, "exists")
    assert "--overwrite" in remedy
    assert (tmp_path / "hostname").read_text() == "mine"
    assert vault.json("get", "shop1", "/etc/hostname", "--overwrite", folder=tmp_path)[0] == 0
    assert (tmp_path / "hostname").read_text() == "shop1 a day later\n"
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/mine").write_text("mine")
    assert vault.refused("get", "shop1", "/etc", folder=tmp_path)[1] == "exists"
    code, kind, remedy = vault.refused("get", "shop1", "/etc/hostname", "-o", "none/x", folder=tmp_path)
    assert (code, kind) == (6, "no-folder") and remedy
    (tmp_path / "folder/hostname").mkdir(parents=True)
    code, kind, remedy = vault.refused("get", "shop1", "/etc/hostname", "-o", "folder", "--overwrite", folder=tmp_path)
    assert (code, kind) == (6, "exists")
    assert "--overwrite" not in remedy, "a directory is not replaced by a file, whatever is said"


@pytest.mark.parametrize(
    ("arguments", "wanted", "named"),
    [
        (("ls", "shop1", "/", "--point", "shop1-1-99"), (8, "not-found"), "there are shop1-1-2"),
        (("get", "shop1", "/etc", "--point", "2020-01-01T00:00:00Z"), (8, "not-found"), "there are shop1-1-2"),
        (("ls", "shop1", "/", "--point", "yesterday"), (6, "selector-invalid"), "a time like"),
        (("ls", "shop1", "/", "--point", "latest-app-consistent"), (8, "not-found"), "use another selector"),
        (("ls", "shop7"), (8, "not-found"), "dr points shop7"),
        (("ls", "shop1", "/etc/shadow"), (8, "no-such-file"), "`dr files ls` of /etc"),
        (("get", "shop1", "/etc/shadow"), (8, "no-such-file"), "`dr files ls` of /etc"),
        (("ls", "shop1", "/etc/hostname/x"), (8, "no-such-file"), "`dr files ls` of /etc"),
        (("get", "shop1", "/srv/pipe"), (6, "file-kind"), "files, directories and links"),
        (("get", "shop1", "/"), (6, "no-target"), "-o"),
        (("ls", "shop1", "os:2:/"), (6, "volume-unreadable"), "fail over"),
        (("get", "shop1", "os:2:/x"), (6, "volume-unreadable"), "fail over"),
        (("ls", "shop1", "data:/x"), (8, "no-such-volume"), "os:1, os:2"),
    ],
)
def test_what_cannot_be_had_is_named_with_a_remedy(
    vault: Vault, tmp_path: Path, arguments: tuple[str, ...], wanted: tuple[int, str], named: str
) -> None:
    code, kind, remedy = vault.refused(*arguments, folder=tmp_path)
    assert (code, kind) == wanted
    assert named in remedy


def interrupted(vault: Vault, path: str, folder: Path) -> tuple[int, dict[str, Any]]:
    """End a `get` by Ctrl-C while Azurite keeps it waiting in the middle of the huge file."""
    with vault.start("get", "shop1", path, "--json", folder=folder) as process:
        wait_for("the first bytes", lambda: any(each.stat().st_size for each in folder.rglob(".lifeboat-*")), 60)
        os.kill(vault.azurite.pid, signal.SIGSTOP)
        try:
            assert list(folder.rglob(".lifeboat-*")), "it was too fast"
            process.send_signal(signal.SIGINT)
            out, errors = process.communicate(timeout=60)
        finally:
            os.kill(vault.azurite.pid, signal.SIGCONT)
    assert "Traceback" not in errors
    document: dict[str, Any] = json.loads(out)
    SCHEMA.validate(document)
    return process.returncode, document


def test_ctrl_c_leaves_nothing_of_a_file(vault: Vault, tmp_path: Path) -> None:
    code, document = interrupted(vault, "/srv/many/huge", tmp_path)
    assert (code, document["error"]["code"]) == (130, "interrupted")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_in_a_directory_says_that_it_is_not_whole(vault: Vault, tmp_path: Path) -> None:
    code, document = interrupted(vault, "/srv/many", tmp_path)
    assert (code, document["error"]["code"]) == (130, "interrupted")
    assert f"{tmp_path / 'many'} is not whole" in document["error"]["message"]
    assert "--overwrite" in document["error"]["remedy"]
    assert not (tmp_path / "many/huge").exists()
    assert list(tmp_path.rglob(".lifeboat-*")) == []
    assert vault.json("get", "shop1", "/srv/many", "--overwrite", folder=tmp_path)[0] == 0
    assert (tmp_path / "many/huge").stat().st_size == HUGE_BYTES


def test_a_vault_that_the_secret_does_not_open_is_named(vault: Vault, tmp_path: Path) -> None:
    environment = vault.environment | {"PULUMI_CONFIG_PASSPHRASE": "another"}
    code, kind, remedy = Vault(vault.azurite, environment, vault.points, vault.content).refused(
        "ls", "shop1", folder=tmp_path
    )
    assert (code, kind) == (6, "passphrase-wrong") and remedy
