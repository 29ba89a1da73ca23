"""Servers that stand against an installation, as data: what they answer, and the whole message for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from dr.compile.blueprint import DiskBlueprint, MembershipBlueprint, ProtectionBlueprint
from dr.errors import Refused
from dr.push.blockers import findings, require_none
from dr.push.catalogue import CATALOGUE
from dr.push.facts import facts_of
from dr.push.probes import Output, split
from tests.push.samples import PROTECTION

HERE = Path(__file__).parent
NONCE = "==0123456789abcdef01234567"
SOUND = split((HERE / "data" / "debian12-facts.txt").read_text(), NONCE)
DECLARED = replace(
    PROTECTION, disks=(DiskBlueprint("os", "/dev/disk/by-id/virtio-shop1-os", "shop1/os.vhd", "shop1/os.digests"),)
)


@dataclass(frozen=True)
class Case:
    """One server; see the head of blocked/system.yaml."""

    title: str
    says: str = ""
    concerns: str = ""
    answers: Mapping[str, Any] = None  # type: ignore[assignment]  # an empty mapping, below
    disks: Mapping[str, str] | None = None
    privilege: str = "root"
    complaint: str | None = None
    skew: float | None = 0.2
    installed: Mapping[str, Any] | None = None
    group_port: int | None = None

    @property
    def protection(self) -> ProtectionBlueprint:
        group = MembershipBlueprint("shop", "192.0.2.10:20004", self.group_port) if self.group_port else None
        declared = replace(DECLARED, group=group)
        if self.disks is None:
            return declared
        return replace(declared, disks=tuple(DiskBlueprint(n, d, f"shop1/{n}.vhd", "") for n, d in self.disks.items()))

    @property
    def outputs(self) -> Mapping[str, Output]:
        return {**SOUND, **{name: _output(answer) for name, answer in (self.answers or {}).items()}}


def _output(answer: str | Mapping[str, Any]) -> Output:
    return Output(0, answer) if isinstance(answer, str) else Output(answer["code"], answer["text"])


def cases() -> Iterator[Case]:
    for path in sorted((HERE / "blocked").glob("*.yaml")):
        for each in yaml.safe_load(path.read_text()):
            yield Case(**each)


def judged(case: Case) -> tuple[str, str]:
    """Return the message and, a line each, the concerns."""
    facts = facts_of(
        case.outputs,
        case.protection,
        privilege=case.privilege,
        privilege_complaint=case.complaint,
        clock_skew_seconds=case.skew,
    )
    installed = None
    if case.installed is not None:
        hardware = {"product_uuid": "5f0c1b1e-0000-4000-8000-000000000001", "disks": {"os": case.installed["disk"]}}
        installed = {**case.installed, "protection_epoch": 1, "hardware": hardware}
    found = findings(case.protection, facts, site="harbour", installed=installed, protection_epoch=1)
    concerns = "".join(f"{each}\n" for each in found if not each.blocks)
    try:
        require_none("shop1", found)
    except Refused as refused:
        assert refused.code == "install-blocked"
        return refused.message + "\n", concerns
    return "", concerns


CASES = list(cases())


@pytest.mark.parametrize("case", CASES, ids=[case.title for case in CASES])
def test_each_server_is_told_everything_at_once(case: Case) -> None:
    assert judged(case) == (case.says, case.concerns)
    assert case.says or case.concerns


def test_the_sound_server_is_sound() -> None:
    assert judged(Case("sound")) == ("", "")


def test_the_list_is_long_and_every_name_is_on_it() -> None:
    assert len([case for case in CASES if case.says]) >= 15
    told = "".join(case.says + case.concerns for case in CASES)
    assert [code for code in CATALOGUE if f"{code}: " not in told] == []
