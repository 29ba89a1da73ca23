"""Parsers, over outputs that real servers gave (`data/`), and the frame that carries them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from dr.errors import Corrupt
from dr.push import facts, presence, storage
from dr.push.facts import PythonFact, TraceFact
from dr.push.probes import Output, bundle, read, split

DATA = Path(__file__).parent / "data"
NONCE = "==0123456789abcdef01234567"


def outputs(name: str) -> Mapping[str, Output]:
    return split((DATA / name).read_text(), NONCE)


def test_facts_of_a_debian_12_server() -> None:
    found = outputs("debian12-facts.txt")
    assert read(facts.SYSTEM, found) == "Debian GNU/Linux 12 (bookworm)"
    assert read(facts.MACHINE, found) == "x86_64"
    assert read(facts.PYTHON, found) == (PythonFact("/usr/bin/python3", (3, 11), ()),)
    assert facts.fitting(read(facts.PYTHON, found)) == PythonFact("/usr/bin/python3", (3, 11), ())
    assert read(facts.SYSTEMD, found) == 252
    assert str(read(facts.OPENSSL, found)).startswith("OpenSSL 3.0.")
    assert read(facts.TRACE, found) == TraceFact("/sys/kernel/tracing", supported=True, event=True, lockdown="none")
    assert set(read(facts.SPACE, found)) == {"/usr/local/lib", "/var/cache", "/etc", "/run"}
    assert read(facts.SPACE, found)["/usr/local/lib"] > 1 << 30
    assert (read(facts.MEMORY, found) or 0) > 256 << 20
    assert read(facts.PROCESSORS, found) == 2
    assert read(facts.FIRMWARE, found) == "bios"
    assert read(facts.PRODUCT_UUID, found) == "5f0c1b1e-0000-4000-8000-000000000001"
    (whole,) = read(storage.WHOLE_DISKS, found)
    assert str(whole) == "/dev/disk/by-id/virtio-shop1-os (2 GiB)"
    disk = read(storage.disk_probe("os", "/dev/disk/by-id/virtio-shop1-os"), found)
    assert (disk.kind, disk.node, disk.size_bytes, disk.serial) == ("disk", "/dev/vda", 2 << 30, "shop1-os")
    assert (disk.sector_bytes, disk.requests, disk.multipath) == (512, True, "")
    layout = read(storage.LAYOUT, found)
    assert layout is not None
    assert [(mount.target, mount.node) for mount in layout.mounts] == [("/", "/dev/vda3")]
    assert layout.disks("/dev/vda3") == {"/dev/vda"}
    assert [entry.target for entry in layout.fstab] == ["/"]


def test_presence_on_an_installed_and_on_an_empty_server() -> None:
    found = outputs("installed-presence.txt")
    paths = read(presence.PATHS, found)
    assert paths["/etc/lifeboat/tls/agent.key"].mode == 0o600
    assert paths["/etc/lifeboat"].sha256 == ""
    assert len(paths["/usr/local/lib/lifeboat/lifeboat-agent.pyz"].sha256) == 64
    assert (read(presence.CONFIG, found) or {})["server"] == "shop1"
    assert presence.certificate_end(read(presence.CERTIFICATE, found)) is not None
    assert read(presence.KEY_PUBLIC, found).startswith(b"-----BEGIN PUBLIC KEY-----")
    unit = read(presence.UNIT, found)
    assert (unit.active, unit.enabled, unit.reload_needed) == ("active", "enabled", False)
    assert unit.pid > 0
    assert len(unit.digest) == 64
    empty = outputs("empty-presence.txt")
    assert read(presence.PATHS, empty) == {}
    assert read(presence.CONFIG, empty) is None
    assert read(presence.UNIT, empty).active == "inactive"
    assert read(presence.TRACE_INSTANCE, empty) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/usr/bin/python3 3 6\n", None),
        ("/usr/bin/python3 3 6\n/usr/bin/python3.9 3 9\n", "/usr/bin/python3.9"),
        ("/usr/bin/python3 3 11 ssl ctypes\n", None),
        ("/usr/bin/python3 3 14\n/usr/bin/python3.13 3 13\n", "/usr/bin/python3.13"),
        ("", None),
        ("garbage", None),
    ],
)
def test_the_first_interpreter_that_fits_is_taken(text: str, expected: str | None) -> None:
    chosen = facts.fitting(facts.parse_pythons(Output(0, text)))
    assert (chosen.path if chosen else None) == expected


def test_lockdown_and_a_tracefs_that_is_not_mounted_yet() -> None:
    text = "supported\nevent\nlockdown none integrity [confidentiality]\n"
    assert facts.parse_trace(Output(0, text)) == TraceFact(None, True, True, "confidentiality")
    assert facts.parse_trace(Output(1, "lockdown \n")) == TraceFact(None, False, False, "")


@pytest.mark.parametrize("probe", [*facts.PROBES, *presence.PROBES], ids=lambda probe: probe.name)
@pytest.mark.parametrize("text", ["", "\n\n", "no such command\n", "a=b=c\n", "x\n1 2 3\n"])
def test_parsers_take_whatever_comes(probe: object, text: str) -> None:
    probe.parse(Output(127, text))  # type: ignore[attr-defined]  # parametrize loses the type


def test_the_frame_is_whole_or_refused() -> None:
    whole = (DATA / "debian12-facts.txt").read_text()
    begin = whole.index(f"\n{NONCE} begin space")
    cut = whole[: begin + 40]
    with pytest.raises(Corrupt, match="middle of space"):
        split(cut, NONCE)
    with pytest.raises(Corrupt, match="lacks memory"):
        read(facts.MEMORY, split(cut[:begin], NONCE))


def test_device_names_cannot_leave_their_quotes() -> None:
    probe = storage.disk_probe("os", "/dev/x'; touch /tmp/owned; '")
    assert """d='/dev/x'"'"'; touch /tmp/owned; '"'"''""" in bundle([probe], NONCE)
