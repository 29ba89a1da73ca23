"""The site burns and `dr rebuild` makes it anew, by the real Pulumi, Azurite, sshd and agent.

The tests follow each other on one site, in the order of this file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from jsonschema import Draft202012Validator

from dr.certificates.register import Register
from dr.certificates.site import REGISTER, SiteCertificates
from tests.agent.protected import fill, wait_for
from tests.rebuild.burning import Burning, burning_site, wait_kept

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

STOLEN = "deadbeefdeadbeef"
SCHEMA = Draft202012Validator(json.loads(Path("docs/formats/rebuild.schema.json").read_text()))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Burning]:
    with burning_site(tmp_path_factory.mktemp("burning")) as made:
        yield made


def rebuilt(site: Burning, *options: str) -> tuple[int, dict[str, Any]]:
    code, document = site.dr("rebuild", *options)
    SCHEMA.validate(document)
    return code, document


def test_a_site_that_lives_is_refused_by_name(site: Burning) -> None:
    code, document = rebuilt(site, "--site-is-gone")
    assert (code, document["error"]["code"]) == (6, "site-alive")
    assert not (site.folders.site / "rebuild.json").exists()


def test_without_its_state_and_its_folder_all_of_it_comes_back_and_nothing_is_sent_again(site: Burning) -> None:
    point = site.cut()
    SiteCertificates(site.folders.site).revoke(STOLEN, "stolen")
    wait_kept(site, STOLEN)
    certificate = site.server.shell("cat /etc/lifeboat/tls/agent.crt /run/lifeboat/starts 2>/dev/null || true")
    installed = site.server.inventory()
    assert site.agent.process is not None
    pid, sent = site.agent.process.pid, site.agent.status()["sent_bytes"]
    site.burn(state=True)
    fill(site.agent.disks[0], [100, 101, 102])  # while nobody listens

    code, document = rebuilt(site)
    assert (code, document["error"]["code"]) == (6, "site-may-be-alive")
    interrupt(site)
    code, document = rebuilt(site, "--site-is-gone")

    assert code == 0, document
    assert {state["severity"] for state in document["states"]} == {"note"}
    assert all(stack["imported"] or stack["made"] for stack in document["stacks"])
    assert all(stack["left"] == [] for stack in document["stacks"])
    told = document["servers"]["shop1"]
    assert (told["protection_epoch"], told["heard"]) == (1, True)
    assert told["disks"] == [{"name": "os", "size_bytes": site.agent.disks[0].size}]
    assert document["revocations"] == 1
    assert {each.serial for each in Register(site.folders.site / REGISTER).revoked()} == {STOLEN}
    for stack in ("vault-local", "site-local"):
        assert site.here.run(stack, "preview") == []
    held = site.here.pulumi("vault-local", "stack", "export")
    resources = json.loads(held.stdout)["deployment"]["resources"]
    assert all(r.get("protect") and r.get("retainOnDelete") for r in resources if r["type"].startswith("azure-native"))

    assert site.server.inventory() == installed
    assert site.server.shell("cat /etc/lifeboat/tls/agent.crt /run/lifeboat/starts 2>/dev/null || true") == certificate
    assert site.agent.process.pid == pid
    site.agent.wait_drained(60)
    assert site.agent.differing_chunks() == []
    assert "resync" not in site.agent.log.read_text()
    assert site.agent.status()["sent_bytes"] - sent < 64 * 65536, "only what had changed"
    code, listed = site.dr("points", "shop1")
    assert code == 0
    known = [each["id"] for each in listed["points"]]
    assert {point, told["newest"]} <= set(known)
    assert told["position"] in {each["sequence"] for each in listed["points"]}
    assert site.cut() not in known
    assert site.dr("status")[0] == 0
    assert "create VirtualMachine" in site.here.run("failover-shop-local", "preview")


def interrupt(site: Burning) -> None:
    """Begin a rebuild and kill all of it while it imports."""
    state = site.folders.state / ".pulumi/stacks/lifeboat/vault-local.json"
    with site.start("rebuild", "--site-is-gone", "--json") as process:
        wait_for("the import", lambda: state.exists() and b"StorageAccount" in state.read_bytes(), 300)
        for each in psutil.Process(process.pid).children(recursive=True):  # Pulumi has a session of its own
            words = " ".join(each.cmdline())
            if not any(daemon in words for daemon in ("dr serve", "dr retention", "azurite")):
                each.kill()
        process.kill()
    assert site.dr("points", "shop1")[0] == 0


def test_a_second_call_changes_nothing(site: Burning) -> None:
    before = {path: path.read_bytes() for path in (site.folders.site / "tls").iterdir()}
    code, document = rebuilt(site)
    assert (code, document["changed"]) == (0, False), document
    assert {path: path.read_bytes() for path in before} == before


def test_with_the_state_only_the_folder_is_made_again(site: Burning) -> None:
    site.burn(state=False)
    code, document = rebuilt(site, "--site-is-gone")
    assert code == 0, document
    assert [stack["imported"] for stack in document["stacks"]] == [[], []]
    assert sorted(name for stack in document["stacks"] for name in stack["made"]) == [
        "create SiteServers harbour",
        "update VaultAccess harbour",
    ]
    assert site.here.run("site-local", "preview") == []
    site.agent.wait_drained(60)
    assert site.agent.differing_chunks() == []
