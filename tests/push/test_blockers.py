"""The judgement of what is no matter of one answer: what was installed before, epochs, the table in the document."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dr.errors import Refused
from dr.push.blockers import findings, require_none
from tests.push.samples import DISK, FACTS, PROTECTION

INSTALLED = {
    "site": "harbour",
    "server": "shop1",
    "protection_epoch": 1,
    "hardware": {
        "product_uuid": FACTS.product_uuid,
        "disks": {"os": {"size_bytes": DISK.size_bytes, "serial": DISK.serial}},
    },
}


def test_nothing_speaks_against_a_sound_server() -> None:
    assert findings(PROTECTION, FACTS, site="harbour") == ()
    assert findings(PROTECTION, FACTS, site="harbour", installed=INSTALLED, protection_epoch=1) == ()


def test_concerns_alone_do_not_block() -> None:
    found = findings(PROTECTION, replace(FACTS, reach={"192.0.2.2:443": "refused"}), site="harbour")
    assert [finding.code for finding in found] == ["configuration-server-unreachable"]
    require_none("shop1", found)
    with pytest.raises(Refused):
        require_none("shop1", findings(PROTECTION, replace(FACTS, openssl=None), site="harbour"))


def test_a_higher_epoch_adopts_other_hardware_and_nothing_adopts_another_sites_agent() -> None:
    """A recovered copy has the same host key and certificate; only its hardware tells it from the source."""
    copy = replace(FACTS, product_uuid="5f0c1b1e-0000-4000-8000-00000000beef")
    found = findings(PROTECTION, copy, site="harbour", installed=INSTALLED, protection_epoch=1)
    assert [finding.code for finding in found] == ["hardware-changed"]
    assert findings(PROTECTION, copy, site="harbour", installed=INSTALLED, protection_epoch=2) == ()
    found = findings(PROTECTION, copy, site="quay", installed=INSTALLED, protection_epoch=2)
    assert [finding.code for finding in found] == ["other-site"]


def test_an_installed_agent_has_the_room_that_a_new_one_needs() -> None:
    tight = replace(FACTS, memory_available_bytes=1 << 20, free_bytes={"/run": 1 << 20})
    codes = [finding.code for finding in findings(PROTECTION, tight, site="harbour")]
    assert codes == ["space-run", "memory-short"]
    assert findings(PROTECTION, tight, site="harbour", installed=INSTALLED, protection_epoch=1) == ()
