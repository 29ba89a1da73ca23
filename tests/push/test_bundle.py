"""The manual way over no SSH at all: its scripts on the rig's server, compared with what the push does there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from dr.certificates.site import SiteCertificates
from dr.compile.blueprint import ProtectionBlueprint
from dr.errors import Corrupt
from dr.push import layout
from dr.push.bundle import Made, write_bundle
from dr.push.install import inspect, remove
from tests.push.rig import Server
from tests.push.samples import PROTECTION
from tests.push.test_install import put

AUTHORITY = b"-----BEGIN CERTIFICATE-----\n"


class Manual:
    """A person at the server's console, with the bundle's folder on a stick."""

    def __init__(self, server: Server, output: Path, agent: Path, authority_pem: bytes) -> None:
        self.server, self.output, self.authority_pem = server, output, authority_pem
        self.package = agent.read_bytes()
        output.mkdir()
        (output / "lifeboat-agent.pyz").write_bytes(self.package)

    def made(self, protection: ProtectionBlueprint | None = None) -> Made:
        declared = [protection or self.server.protection]
        made = write_bundle(self.output, "harbour", declared, package=self.package, authority_pem=self.authority_pem)
        return made["shop1"]

    def run(self, script: str) -> tuple[int, str]:
        """Run a script of the bundle as root on the server; return exit code and what it said."""
        for path in (self.output / "lifeboat-agent.pyz", self.output / "shop1" / script):
            self.server.shell(f"mkdir -p /mnt/stick && cat >/mnt/stick/{path.name}", stdin=path.read_bytes())
        command = ["nsenter", "-t", str(self.server.pid), "-m", "/bin/sh", f"/mnt/stick/{script}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        self.server.shell("rm -r /mnt/stick")
        return done.returncode, done.stdout + done.stderr

    def ask(self) -> None:
        code, answer = self.run("ask.sh")
        assert code == 0
        (self.output / "shop1" / "answer.txt").write_text(answer)


@pytest.fixture
def manual(server: Server, certificates: SiteCertificates, agent: Path, tmp_path: Path) -> Iterator[Manual]:
    yield Manual(server, tmp_path / "bundle", agent, certificates.authority_pem)
    remove(server.protection)


@pytest.mark.real
def test_the_manual_way_and_the_push_make_the_same_server(
    manual: Manual, server: Server, certificates: SiteCertificates, agent: Path
) -> None:
    before = server.inventory()
    assert manual.made() == Made("asked")
    manual.ask()
    assert server.inventory() == before, "asking changes nothing"
    ready = manual.made()
    assert ready.state == "ready"
    assert [line.split(":")[0] for line in ready.concerns][:1] == ["clock-unknown"]

    code, said = manual.run("install.sh")
    assert code == 0, said
    assert "start of the agent" in said
    assert "waits for its certificate" in said
    assert server.shell(f"stat -c %a {layout.KEY}") == "600\n"
    code, said = manual.run("install.sh")
    assert (code, said.splitlines()[0]) == (0, "install: nothing was to do"), said

    pushed = put(server, certificates, agent)
    assert set(pushed.changed) <= {"private key, made on the server", "token for a certificate"}
    manual.ask()
    assert manual.made().state == "ready", "the agent's own files do not stand against it"
    code, said = manual.run("install.sh")
    assert (code, said.splitlines()[0]) == (0, "install: nothing was to do"), said

    code, said = manual.run("remove.sh")
    assert code == 0, said
    assert inspect(server.protection, certificates=certificates) is None
    assert server.inventory() == before
    assert manual.run("remove.sh") == (0, "remove: nothing was to do\n")


@pytest.mark.real
def test_what_stands_against_it_is_told_as_the_push_tells_it(manual: Manual, server: Server) -> None:
    wrong = replace(server.protection, firmware="uefi")
    manual.made(wrong)
    manual.ask()
    blocked = manual.made(wrong)
    assert blocked.state == "blocked"
    assert blocked.message.endswith(
        "This stands against it:\n  firmware-differs: declared is uefi, the server boots by bios\n"
        "      remedy: correct target.firmware"
    )
    assert not (manual.output / "shop1" / "install.sh").exists()


@pytest.mark.real
def test_the_installation_refuses_other_hardware_and_another_program(manual: Manual, server: Server) -> None:
    before = server.inventory()
    manual.made()
    manual.ask()
    manual.made()
    script = manual.output / "shop1" / "install.sh"
    whole = script.read_text()
    sectors = str(256 * 2048)
    assert sectors in whole
    script.write_text(whole.replace(f" = {sectors} ]", " = 4711 ]"))
    assert manual.run("install.sh") == (1, "install: this is not the hardware that answered; ask again\n")
    script.write_text(whole)
    (manual.output / "lifeboat-agent.pyz").write_bytes(b"another")
    code, said = manual.run("install.sh")
    assert (code, "that belongs to this script is not beside it" in said) == (1, True)
    assert server.inventory() == before


def test_answers_that_are_none_are_refused_by_name(tmp_path: Path) -> None:
    def made() -> Made:
        return write_bundle(tmp_path, "harbour", [PROTECTION], package=b"", authority_pem=AUTHORITY)["shop1"]

    assert made() == Made("asked")
    answer = tmp_path / "shop1" / "answer.txt"
    answer.write_text("sudo: a password is required\n")
    with pytest.raises(Corrupt) as caught:
        made()
    assert caught.value.code == "answer-outdated"
    nonce = next(word for word in (tmp_path / "shop1" / "ask.sh").read_text().split() if "==lifeboat-" in word)
    nonce = nonce[nonce.index("==") :]
    answer.write_text(f"\n{nonce} begin system\nNAME=x\n\n{nonce} end 0\n")
    with pytest.raises(Corrupt) as caught:
        made()
    assert (caught.value.code, "lacks" in caught.value.message) == ("answer-incomplete", True)
    answer.write_text(f"\n{nonce} begin system\nNAME=x\n")
    with pytest.raises(Corrupt) as caught:
        made()
    assert caught.value.code == "answer-incomplete"


def test_the_tasks_are_ansibles_own_and_name_the_bundles_files(tmp_path: Path) -> None:
    write_bundle(tmp_path, "harbour", [PROTECTION], package=b"", authority_pem=AUTHORITY)
    listed = yaml.safe_load((tmp_path / "tasks.yml").read_text())
    tasks = [part for each in listed for part in (each, *each.get("block", ()), *each.get("always", ()))]
    modules = {key for task in tasks for key in task if "." in key}
    assert modules == {f"ansible.builtin.{name}" for name in ("script", "copy", "command", "tempfile", "file")}
    text = (tmp_path / "tasks.yml").read_text()
    for name in ("ask.sh", "answer.txt", "install.sh", "lifeboat-agent.pyz", layout.TOKEN):
        assert name in text
    secret = [task for task in tasks if "token" in task["name"]]
    assert len(secret) == 2
    assert all(task["no_log"] for task in secret)
