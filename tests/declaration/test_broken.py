"""Every broken declaration gives exactly its errors: all of them, in order, at the right places."""

from __future__ import annotations

import re

import pytest

from dr.schema import examine
from tests.declaration.estate import FILES, SERVERS, SITE, Broken, broken, sources

CASES = broken()


@pytest.mark.parametrize("case", CASES, ids=[case.title for case in CASES])
def test_broken_declaration(case: Broken) -> None:
    examined = examine(sources(case.files()), folder="plans")
    assert [str(finding) for finding in examined.findings] == list(case.errors)
    assert examined.declaration is None


def test_there_are_many_and_no_two_alike() -> None:
    assert len(CASES) >= 40
    assert len({case.title for case in CASES}) == len(CASES)
    assert len({(case.estate, case.edits, case.errors) for case in CASES}) == len(CASES)


# How a message says what to do: what the value must be, what it lacks, what was meant, or a remedy behind a semicolon.
SAYS_WHAT_TO_DO = re.compile(r"; \w|\bmust\b|lacks the key|may not be empty|did you mean|exactly one")


@pytest.mark.parametrize("file", sorted(str(case) for case in {case.file for case in CASES}))
def test_every_message_has_a_place_and_says_what_to_do(file: str) -> None:
    for error in (error for case in CASES if case.file == file for error in case.errors):
        assert re.match(r"(plans|[a-z]+\.yaml):[1-9][0-9]*:[1-9][0-9]*: ", error), error
        assert SAYS_WHAT_TO_DO.search(error), error


def test_the_estate_is_well() -> None:
    assert examine(sources()).findings == ()


def errors_of(**changed: str) -> list[str]:
    files = {**FILES, **{f"{name}.yaml": text for name, text in changed.items()}}
    return [str(finding) for finding in examine(sources(files)).findings]


def with_disks(count: int) -> str:
    disks = "".join(f"  - name: d{i}\n    device: /dev/disk/by-id/scsi-{i}\n" for i in range(count))
    old = "  - name: os\n    device: /dev/disk/by-id/virtio-web1-os\n"
    assert old in SERVERS
    return SERVERS.replace(old, disks).replace("Standard_D2s_v5", "Standard_M64ls")


def test_a_server_has_one_os_disk_and_64_data_disks_at_most() -> None:
    assert errors_of(servers=with_disks(65)) == []
    assert errors_of(servers=with_disks(66)) == ["servers.yaml:10:3: disks must have at most 65 items; found 66"]


def many_servers(count: int) -> str:
    template = SERVERS.split("---\n", maxsplit=1)[0]
    return "---\n".join(
        template.replace("web1", f"s{i}").replace("192.0.2.11", f"192.0.2.{i}").replace("10.20.1.10", f"10.20.1.{i}")
        for i in range(4, count + 4)
    )


def test_a_plan_has_100_servers_at_most() -> None:
    plan = "kind: RecoveryPlan\nname: all\ngroups:\n  - servers: [{}]\n"
    hundred = ", ".join(f"s{i}" for i in range(4, 104))
    assert errors_of(servers=many_servers(100), plans=plan.format(hundred)) == []
    assert errors_of(servers=many_servers(101), plans=plan.format(f"{hundred}, s104")) == [
        "plans.yaml:4:3: the plan has 101 servers; a recovery plan has at most 100; make two plans"
    ]


def test_a_replication_group_has_16_members_at_most() -> None:
    sixteen = many_servers(16).replace("policy: standard", "policy: standard\ngroup: all")
    assert errors_of(servers=sixteen, plans="") == []
    assert errors_of(
        servers=many_servers(17).replace("policy: standard", "policy: standard\ngroup: all"), plans=""
    ) == ['servers.yaml:329:8: replication group "all" has 17 members; it may have 16 at most; make two groups']


def test_a_byte_that_is_not_utf_8_has_its_place() -> None:
    files = sources() | {"site.yaml": SITE.replace("harbour", "h\xe4fen").encode("latin-1")}
    assert [str(finding) for finding in examine(files).findings] == [
        "site.yaml:2:8: byte 0xe4 is not UTF-8; save the file as UTF-8"
    ]


def test_a_file_in_utf_16_is_not_utf_8() -> None:
    files = sources() | {"site.yaml": SITE.encode("utf-16")}
    assert [str(finding) for finding in examine(files).findings] == [
        "site.yaml:1:1: byte 0xff is not UTF-8; save the file as UTF-8"
    ]


def test_a_byte_order_mark_and_windows_line_ends_are_fine() -> None:
    files = sources() | {"site.yaml": b"\xef\xbb\xbf" + SITE.replace("\n", "\r\n").encode()}
    assert examine(files).findings == ()


def test_a_file_that_is_too_large_is_not_parsed() -> None:
    files = sources() | {"site.yaml": b"#" * ((1 << 20) + 1)}
    assert [str(finding) for finding in examine(files).findings] == [
        "site.yaml:1:1: the file is too large; a declaration's file has at most 1048576 bytes"
    ]


def test_a_merge_bomb_is_refused_at_its_first_anchor() -> None:
    bomb = "a: &a [x, x]\n" + "".join(f"{n}: &{n} [*{p}, *{p}]\n" for p, n in zip("abcdefgh", "bcdefghi", strict=True))
    assert errors_of(site=bomb) == [
        "site.yaml:1:4: anchor &a: write the value out where it is needed; anchors are not used here"
    ]


def test_no_private_key_is_ever_repeated() -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\\nb3BlbnNzaC1rZXktdjEAAAAA"
    for name in ("web1", "root@web1", "192.0.2.11", "dradmin", "LIFEBOAT_SSH_KEY", "keys/db1", "front", "bios"):
        text = "\n".join(errors_of(servers=SERVERS.replace(f" {name}\n", f' "{key}"\n')))
        assert text
        assert "b3BlbnNzaC1" not in text
