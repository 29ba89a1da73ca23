"""A site's folder whose file system is full: named, nobody is turned away for it, and it recovers."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dr.certificates.lifetime import holding
from dr.certificates.site import SiteCertificates
from dr.config_server.client import SiteClient
from tests.config_server.rig import Caller, build_site, running_site
from tests.config_server.test_cuts_and_health import SCHEMA, STATUS
from tests.config_server.test_following import far_machine, locked_out, port, serving, until
from tests.process_server.scripted import Disks
from tests.process_server.test_api import OPEN, SEGMENTS, STREAM

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]
HEARTBEAT = "/v1/agents/shop1/heartbeat"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=700", "tmpfs", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def fill(folder: Path) -> None:
    with (folder / "fill").open("ab", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))


def test_a_full_site_folder_is_named_and_recovers(small: Path) -> None:
    build_site(small)
    with running_site(small) as site:
        agent, sender, client, disks = site.agent(), site.sender(), SiteClient(site.folder), Disks()
        opened = sender("POST", STREAM, OPEN)[1]
        path = f"{SEGMENTS}/1/{{}}?writer_epoch={opened['writer_epoch']}"
        assert sender("PUT", path.format(1), disks.segment(1, 1, "os", [1]))[0] == 200
        while client.status()["servers"]["shop1"]["writer"]["stored"] < 1:
            time.sleep(0.05)
        fill(small)
        assert agent("POST", HEARTBEAT, {**STATUS, "mode": "resync"})[0] == 200
        assert sender.code("PUT", path.format(2), disks.segment(1, 2, "os", [2])) == (503, "spool-full")
        changed = {**OPEN, "facts": {"kernel": "new"}}
        assert sender.code("POST", STREAM, changed) == (503, "spool-full")
        other = site.sender("agents/db1").code("POST", "/v1/servers/db1/stream", OPEN)
        assert other == (503, "spool-full")
        document = client.status()
        SCHEMA.validate(document)
        assert [state["code"] for state in document["states"]] == ["site-folder-unwritable"]
        (small / "fill").unlink()
        opened = sender("POST", STREAM, changed)[1]
        assert opened["stored_sequence"] == 1
        path = f"{SEGMENTS}/1/2?writer_epoch={opened['writer_epoch']}"
        assert sender("PUT", path, disks.segment(1, 2, "os", [2]))[0] == 200
        assert agent("POST", HEARTBEAT, STATUS)[0] == 200 and client.status()["states"] == []


def test_a_full_disk_lets_nobody_in_who_is_revoked(small: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("local")
    build_site(root / "site")
    far = far_machine(root, small / "far")
    with serving(root), serving(far, alone=True):
        until((far / "site/revoked.json").exists)
        fill(small)
        held = holding((far / "site/agents/shop1.crt").read_bytes())
        assert held is not None
        SiteCertificates(root / "site").revoke(held.serial, "stolen")
        caller = Caller(far / "site", "agents/shop1", port(far, "process_server"))
        until(lambda: locked_out(caller))
        (small / "fill").unlink()
        until(lambda: held.serial in (far / "site/revoked.json").read_text())
