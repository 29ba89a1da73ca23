"""The plan as data: nothing the second time, the rest after a break, the right order, no secret in sight."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

from agent.config import parse
from dr.model import Application
from dr.push import layout, plan, unit
from dr.push.facts import PythonFact
from dr.push.layout import Place
from dr.push.plan import Desired, Step
from dr.push.presence import NOTHING, PathState, Presence, UnitState
from tests.push.samples import DISK, FACTS, PROTECTION

CA = b"-----BEGIN CERTIFICATE-----\nca"
DEAD = UnitState("inactive", "dead", "", False, 0, 0, "")


def wanted(package: bytes = b"agent 1", epoch: int = 1, python: str = "/usr/bin/python3") -> Desired:
    facts = replace(FACTS, pythons=(PythonFact(python, (3, 11), ()),))
    config = plan.config(PROTECTION, facts, site="harbour", protection_epoch=epoch)
    return plan.desired(config, facts, package=package, authority_pem=CA)


def state(place: Place, content: bytes | None) -> PathState:
    return PathState(place.mode, "0:0", "" if content is None else hashlib.sha256(content).hexdigest())


def installed(target: Desired) -> Presence:
    folders = {place.path: state(place, None) for place in layout.FOLDERS}
    files = {place.path: state(place, target.files.get(place.path, b"key")) for place in layout.FILES}
    return Presence(
        paths={**folders, **files},
        trees=layout.TREES,
        config=json.loads(target.files[layout.CONFIG]),
        certificate_pem=b"certificate",
        authority_pem=CA,
        key_public_pem=b"public",
        token_serial="",
        unit=UnitState("active", "running", "enabled", False, 42, 0, target.digest),
        trace_instance=None,
    )


def names(present: Presence, target: Desired) -> list[str]:
    return [step.what for step in (*plan.identity_steps(present), *plan.installation_steps(target, present))]


def test_a_new_server_gets_everything_in_the_right_order() -> None:
    assert names(NOTHING, wanted()) == [
        "folder /usr/local/lib/lifeboat",
        "folder /etc/lifeboat",
        "folder /etc/lifeboat/tls",
        "/etc/lifeboat/tls/ca.crt",
        "/etc/lifeboat/agent.json",
        "/usr/local/lib/lifeboat/lifeboat-agent.pyz",
        "/etc/systemd/system/lifeboat-agent.service",
        "systemd reads the unit",
        "start at boot",
        "start of the agent",
    ]


def test_the_second_run_has_nothing_to_do() -> None:
    target = wanted()
    assert names(installed(target), target) == []


def test_a_new_package_replaces_the_file_and_restarts() -> None:
    assert names(installed(wanted()), wanted(b"agent 2")) == [
        layout.PROGRAM,
        layout.UNIT_FILE,
        "systemd reads the unit",
        "start of the agent",
    ]


def test_one_changed_value_changes_the_config_and_no_other_content() -> None:
    steps = names(installed(wanted()), wanted(epoch=2))
    assert steps == [layout.CONFIG, layout.UNIT_FILE, "systemd reads the unit", "start of the agent"]


def test_a_break_between_files_and_restart_is_noticed() -> None:
    target, old = wanted(b"agent 2"), wanted()
    half = replace(installed(target), unit=replace(installed(old).unit, reload_needed=True))
    assert names(half, target) == ["systemd reads the unit", "start of the agent"]
    assert names(replace(installed(target), unit=installed(old).unit), target) == ["start of the agent"]


def test_loosened_rights_and_a_foreign_owner_are_put_right() -> None:
    target = wanted()
    whole = installed(target)
    loose = {
        **whole.paths,
        layout.KEY: replace(whole.paths[layout.KEY], mode=0o644),
        layout.CONFIG: replace(whole.paths[layout.CONFIG], owner="1000:0"),
        layout.TLS_FOLDER: replace(whole.paths[layout.TLS_FOLDER], mode=0o755),
    }
    assert names(replace(whole, paths=loose), target) == [
        "folder /etc/lifeboat/tls",
        "rights of the private key",
        layout.CONFIG,
    ]


def test_an_enrolment_brings_a_new_key_first_and_no_token_in_sight() -> None:
    key, token = plan.enrolment_steps(NOTHING, b"-----BEGIN PRIVATE KEY-----\nsecret")
    assert (key.what, token.what) == ("private key, made on the server", "token for a certificate")
    assert key.script.index(f"{layout.KEY} && sync") < key.script.index(f"rm -f {layout.CERTIFICATE}")
    assert token.stdin.endswith(b"secret")
    assert "secret" not in token.script + repr(token)
    assert "chmod 600" in token.script


def test_a_key_that_never_had_a_certificate_is_kept_and_one_that_had_goes_with_it() -> None:
    whole = replace(installed(wanted()), key_public_pem=b"-----BEGIN PUBLIC KEY-----")
    interrupted = replace(whole, paths={path: whole.paths[path] for path in whole.paths if path != layout.CERTIFICATE})
    assert [step.what for step in plan.enrolment_steps(interrupted, b"secret")] == ["token for a certificate"]
    assert len(list(plan.enrolment_steps(replace(interrupted, key_public_pem=b""), b"secret"))) == 2
    assert len(list(plan.enrolment_steps(whole, b"secret"))) == 2


def test_removal_stops_first_cleans_up_with_the_program_and_then_takes_it_away() -> None:
    steps = [step.what for step in plan.removal_steps(installed(wanted()), python="/usr/bin/python3")]
    assert steps == [
        "stop of the agent",
        "the agent's own cleanup",
        "the trace instance is gone",
        "unit and folders are gone",
    ]
    assert list(plan.removal_steps(NOTHING, python="/usr/bin/python3")) == []


def test_removal_needs_no_whole_installation() -> None:
    only_key = replace(NOTHING, trees=(layout.CONFIG_FOLDER,))
    steps = [step.what for step in plan.removal_steps(only_key, python=None)]
    assert steps == ["the trace instance is gone", "unit and folders are gone"]
    only_ring = replace(NOTHING, trace_instance="/sys/kernel/tracing/instances/lifeboat")
    assert list(plan.removal_steps(only_ring, python=None))


def test_config_is_the_agents_contract() -> None:
    config = plan.config(PROTECTION, FACTS, site="harbour", protection_epoch=3)
    assert config == {
        "server": "shop1",
        "site": "harbour",
        "protection_epoch": 3,
        "configuration_server": "192.0.2.2:443",
        "process_servers": ["192.0.2.2:9443"],
        "disks": [{"name": "os", "device": "/dev/disk/by-id/virtio-os"}],
        "tls": {
            "ca": "/etc/lifeboat/tls/ca.crt",
            "cert": "/etc/lifeboat/tls/agent.crt",
            "key": "/etc/lifeboat/tls/agent.key",
            "token": "/etc/lifeboat/tls/token.pem",
        },
        "hardware": {
            "product_uuid": FACTS.product_uuid,
            "disks": {"os": {"size_bytes": DISK.size_bytes, "serial": "os"}},
        },
        "policy": {"crash_consistent_seconds": 300},
        "applications": [],
        "limits": {"tracker_kib": 65536, "buffer_bytes": 33554432},
    }


def test_the_unit_bounds_the_agent_and_leaves_it_disks_and_tracefs() -> None:
    text = unit.render(python="/usr/bin/python3.9", digest="d" * 64, disk_bytes=1 << 40).decode()
    command = "/usr/bin/python3.9 -I /usr/local/lib/lifeboat/lifeboat-agent.pyz run --config /etc/lifeboat/agent.json"
    assert f"ExecStart={command}\n" in text
    assert f"MemoryMax={(256 << 20) + (48 << 20)}\n" in text  # 16 MiB for each of three maps of 1 TiB
    harmful = ("ProtectKernelTunables", "PrivateDevices", "ProtectClock", "PrivateTmp", "KillMode=mixed")
    assert not [word for word in harmful if word in text]
    assert "RuntimeDirectoryPreserve=yes" in text


def test_contents_do_not_show_in_representations() -> None:
    assert "CERTIFICATE" not in repr(wanted())
    assert "secret" not in repr(Step("x", "true", b"secret"))


def test_the_agent_understands_the_applications_that_were_declared() -> None:
    asked = (
        Application("shop-db", 45, "postgresql", "/etc/shop-db.conf"),
        Application("queue", pre=("/usr/local/sbin/queue", "quiesce"), post=("/usr/local/sbin/queue", "resume")),
    )
    config = plan.config(replace(PROTECTION, applications=asked), FACTS, site="harbour", protection_epoch=3)
    understood = parse(json.loads(json.dumps(config))).applications
    assert [(each.name, each.timeout_seconds, each.use, each.settings) for each in understood] == [
        ("shop-db", 45, "postgresql", "/etc/shop-db.conf"),
        ("queue", 30, "", ""),
    ]
    assert (understood[1].pre, understood[1].post) == (asked[1].pre, asked[1].post)
