"""`dr status` as a person and a script see it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dr.cli.main import dr
from dr.config_server.api import access_states
from dr.config_server.server import ConfigurationServer
from dr.config_server.settings import Membership
from dr.errors import NotFound
from dr.vault import declared
from dr.vault.manifest import format_time
from tests.config_server.rig import RunningSite, build_site, running_site
from tests.config_server.test_cuts_and_health import SCHEMA, STATUS


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSite]:
    root = tmp_path_factory.mktemp("local")
    build_site(root / "site")
    with running_site(root / "site") as running:
        yield running


def dr_status(root: Path, *arguments: str) -> Result:
    environment = {"LIFEBOAT_LOCAL": str(root), "PULUMI_CONFIG_PASSPHRASE": "x"}
    return CliRunner().invoke(dr, ["status", *arguments], env=environment)


def test_json_keeps_its_schema_and_degraded_is_exit_code_7(site: RunningSite) -> None:
    site.agent()("POST", "/v1/agents/shop1/heartbeat", STATUS | {"mode": "initial-replication", "sent_bytes": 3 << 20})
    answer = dr_status(site.folder.parent, "--json")
    document = json.loads(answer.stdout)
    SCHEMA.validate(document)
    assert answer.exit_code == 7 and document["error"]["code"] == "degraded"
    assert "shop1 initial-replication" in document["error"]["message"]


def test_plain_lines_without_a_terminal_name_state_and_remedy(site: RunningSite) -> None:
    site.agent()("POST", "/v1/agents/shop1/heartbeat", STATUS | {"sent_bytes": 3 << 20})
    answer = dr_status(site.folder.parent, "shop1")
    assert answer.exit_code == 7
    lines = answer.stdout.splitlines()
    assert lines[0] == "shop1  degraded  delta  no RPO  no point  backlog 0 B  sent 3 MiB"
    assert lines[1].startswith("shop1: no-point: ") and lines[2].startswith("    remedy: ")
    assert "db1" not in answer.stdout


def test_a_group_that_shares_nothing_is_one_state_of_its_own(site: RunningSite) -> None:
    (server,) = (each for each in site.servers if isinstance(each, ConfigurationServer))
    alone = server.settings
    members = {
        name: replace(each, group=Membership("shop", f"{name}.hq:20004", 20004)) for name, each in alone.servers.items()
    }
    server.settings = replace(alone, servers=members)
    try:
        told = site.agent()("POST", "/v1/agents/shop1/heartbeat?revocations=", STATUS)[1]
        assert told["group"] == {
            "name": "shop",
            "members": {"db1": "db1.hq:20004", "shop1": "shop1.hq:20004"},
            "coordinator": "db1",
            "port": 20004,
        }
        version = told["revocations"]["version"]
        known = site.agent()("POST", f"/v1/agents/shop1/heartbeat?revocations={version}", STATUS)[1]
        assert known["revocations"] is None
        answer = dr_status(site.folder.parent, "shop1", "--json")
        SCHEMA.validate(json.loads(answer.stdout))
        assert "group shop group-not-shared" in json.loads(answer.stdout)["error"]["message"]
        lines = dr_status(site.folder.parent).stdout.splitlines()
        assert "group shop  degraded  of db1, shop1  no RPO  no shared point" in lines
        assert len([line for line in lines if "group-not-shared" in line]) == 1
    finally:
        server.settings = alone


def test_a_server_that_is_not_protected_is_named(site: RunningSite) -> None:
    answer = dr_status(site.folder.parent, "shop9")
    assert isinstance(answer.exception, NotFound) and "shop1" in answer.exception.remedy


def test_without_a_site_it_says_so_and_asks_the_vault(tmp_path: Path) -> None:
    answer = dr_status(tmp_path, "--json")
    document = json.loads(answer.stdout)
    SCHEMA.validate(document)
    assert answer.exit_code == 7 and document["source"] == "vault"
    assert [state["code"] for state in document["states"]] == ["site-unreachable"]
    # There is no vault on this machine either: that is named for each server, with what to do.
    assert all(server["states"] and server["states"][0]["remedy"] for server in document["servers"].values())


def test_a_server_that_left_is_listed_with_until_when(site: RunningSite) -> None:
    declared.tell(site.store, "hq", {"old1": 3600, "shop1": 3600})
    declared.tell(site.store, "hq", {"shop1": 3600})
    until = format_time(declared.read(site.store)["old1"].until or datetime.now(UTC))
    document = json.loads(dr_status(site.folder.parent, "--json").stdout)
    SCHEMA.validate(document)
    assert document["left"]["old1"]["until"] == until
    assert "old1" not in document["servers"]
    answer = dr_status(site.folder.parent, "old1")
    assert answer.exit_code == 0
    assert answer.stdout.splitlines() == [f"old1  left  not protected  points kept until {until}"]
    site.store.put("retention", declared.BLOB, b"{")
    document = json.loads(dr_status(site.folder.parent, "--json").stdout)
    assert [state["code"] for state in document["states"]] == ["retention-unreadable"]
    site.store.delete("retention", declared.BLOB)


def test_a_login_at_the_vault_that_ends_is_named_two_weeks_before() -> None:
    now = datetime(2026, 5, 17, tzinfo=UTC)
    assert access_states(None, now) == access_states(now + timedelta(days=15), now) == []
    (soon,) = access_states(now + timedelta(days=13), now)
    (over,) = access_states(now - timedelta(days=1), now)
    assert soon.code == over.code == "vault-access-ending"
    assert "ends at" in soon.message and "ended at" in over.message
    assert "pulumi up" in soon.remedy
