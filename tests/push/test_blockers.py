"""The judgement: every blocker by the facts that cause it, all at once, and none for a sound server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dr.errors import Refused
from dr.push.blockers import CATALOGUE, findings, require_none
from dr.push.facts import PythonFact, TraceFact
from tests.push.samples import DISK, FACTS, GIB, PROTECTION

DOC = Path(__file__).parents[2] / "docs" / "agent-install.md"
CASES: list[tuple[str, dict[str, Any]]] = [
    ("no-root", {"privilege": "none", "privilege_complaint": "sudo: a password is required"}),
    ("machine-unsupported", {"machine": "aarch64"}),
    ("python-missing", {"pythons": (PythonFact("/usr/bin/python3", (3, 6), ()),)}),
    ("python-missing", {"pythons": (PythonFact("/usr/bin/python3", (3, 11), ("ssl",)),)}),
    ("python-missing", {"pythons": ()}),
    ("systemd-missing", {"systemd": None}),
    ("systemd-missing", {"systemd": 219}),
    ("openssl-missing", {"openssl": None}),
    ("tracefs-missing", {"trace": TraceFact(None, False, False, "")}),
    ("tracepoint-missing", {"trace": TraceFact("/sys/kernel/tracing", True, False, "")}),
    ("kernel-lockdown", {"trace": TraceFact(None, True, True, "confidentiality")}),
    ("disk-missing", {"disks": {"os": replace(DISK, kind="absent", size_bytes=0)}}),
    ("disk-not-whole", {"disks": {"os": replace(DISK, kind="partition", parent="/dev/vda")}}),
    ("disk-unsupported", {"disks": {"os": replace(DISK, kind="stacked")}}),
    ("disk-unsupported", {"disks": {"os": replace(DISK, size_bytes=0)}}),
    ("disk-twice", {"disks": {"os": DISK, "data": DISK}}),
    ("disk-too-large", {"disks": {"os": replace(DISK, size_bytes=2049 * GIB)}}),
    ("firmware-differs", {"firmware": "uefi"}),
    ("clock-skew", {"clock_skew_seconds": -301.0}),
    ("space-root", {"free_bytes": {"/": 1 << 20, "/run": GIB}}),
    ("space-run", {"free_bytes": {"/": GIB, "/run": 1 << 20}}),
    ("memory-short", {"memory_available_bytes": 100 << 20}),
    ("configuration-server-unreachable", {"reach": {"192.0.2.2:443": "timeout"}}),
    ("process-server-unreachable", {"reach": {"192.0.2.2:9443": "refused"}}),
    ("hardware-unnamed", {"product_uuid": ""}),
]
INSTALLED = {
    "protection_epoch": 1,
    "hardware": {
        "product_uuid": FACTS.product_uuid,
        "disks": {"os": {"size_bytes": DISK.size_bytes, "serial": DISK.serial}},
    },
}


def test_nothing_speaks_against_a_sound_server() -> None:
    assert findings(PROTECTION, FACTS) == ()
    assert findings(PROTECTION, FACTS, installed=INSTALLED, protection_epoch=1) == ()


@pytest.mark.parametrize(("code", "change"), CASES, ids=[f"{n}-{c[0]}" for n, c in enumerate(CASES)])
def test_each_cause_has_its_name_and_its_remedy(code: str, change: dict[str, Any]) -> None:
    found = findings(PROTECTION, replace(FACTS, **change))
    assert [finding.code for finding in found] == [code]
    assert found[0].cause
    assert found[0].remedy
    assert found[0].blocks == CATALOGUE[code][0]


def test_every_entry_of_the_catalogue_is_tested() -> None:
    assert {code for code, _ in CASES} | {"hardware-changed"} == set(CATALOGUE)


def test_all_blockers_come_at_once_and_concerns_do_not_block() -> None:
    facts = replace(FACTS, openssl=None, firmware="uefi", reach={"192.0.2.2:443": "refused"})
    with pytest.raises(Refused, match=r"nothing was changed: openssl-missing: .*; firmware-differs: ") as caught:
        require_none("shop1", findings(PROTECTION, facts))
    assert caught.value.code == "install-blocked"
    assert "configuration-server" not in caught.value.message
    require_none("shop1", findings(PROTECTION, replace(FACTS, reach={"192.0.2.2:443": "refused"})))


def test_a_recovered_copy_under_the_old_address_is_not_adopted() -> None:
    """The copy has the same host key and certificate; only its hardware tells it from the source."""
    copy = replace(FACTS, product_uuid="5f0c1b1e-0000-4000-8000-00000000beef")
    found = findings(PROTECTION, copy, installed=INSTALLED, protection_epoch=1)
    assert [finding.code for finding in found] == ["hardware-changed"]
    assert findings(PROTECTION, copy, installed=INSTALLED, protection_epoch=2) == ()
    other = replace(FACTS, disks={"os": replace(DISK, serial="other")})
    assert findings(PROTECTION, other, installed=INSTALLED, protection_epoch=1)[0].code == "hardware-changed"


def test_the_document_has_the_catalogue() -> None:
    text = DOC.read_text()
    for code, (blocks, meaning, remedy) in CATALOGUE.items():
        assert f"| `{code}` | {'blocks' if blocks else 'concern'} | {meaning} | {remedy} |" in text
