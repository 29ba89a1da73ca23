"""Servers of many shapes: protected, replicated, failed over, booted; each checked against pictures taken by QEMU.

`make test` runs the six of `SHORT` and compares them with `docs/support.md`; `make prove-matrix` runs all or those that
it is told, and writes them there. The tests follow each other on one batch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from demo import compare
from tests.end_to_end.estate import SHOP_PORT
from tests.end_to_end.fleet import PLAN, Fleet, protected
from tools.machines import support
from tools.machines.shape import Shape, chosen
from tools.machines.source import SourceMachine
from tools.setup.paths import CHECKOUT

TOLD = os.environ.get("LIFEBOAT_MATRIX", "")
WANTED = chosen(TOLD or "short")
# More side by side starve each other on two emulating cores. By turns, so that each batch has something of everything.
TURNS = -(-len(WANTED) // 3)
BATCHES = [WANTED[start::TURNS] for start in range(TURNS)]
PAGE = CHECKOUT / "docs" / "support.md"
FIRMWARE = "test -d /sys/firmware/efi && echo uefi || echo bios"
# What lies between the root file system and its disks: lsblk's types, without repetition.
STACK = {
    "plain": {"part", "disk"},
    "lvm": {"lvm", "part", "disk"},
    "lvm2": {"lvm", "part", "disk"},
    "md": {"raid1", "part", "disk"},
}

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module", params=BATCHES, ids=lambda shapes: "+".join(shape.name for shape in shapes))
def shapes(request: pytest.FixtureRequest) -> tuple[Shape, ...]:
    batch: tuple[Shape, ...] = request.param
    return batch


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory, shapes: tuple[Shape, ...]) -> Iterator[Fleet]:
    """The servers of a batch, running, with the vault up."""
    with protected(tmp_path_factory.mktemp("fleet"), shapes) as made:
        yield made


@pytest.fixture(scope="module")
def seconds(shapes: tuple[Shape, ...]) -> dict[str, list[int]]:
    """What was measured of each server of the batch: replication, boot."""
    return {}


@pytest.fixture(scope="module")
def rows(shapes: tuple[Shape, ...]) -> list[support.Row]:
    """What was found in the recovered servers."""
    return []


@pytest.fixture(scope="module")
def known(shapes: tuple[Shape, ...]) -> dict[str, compare.ShopState]:
    """Each shop's state before its recovery point."""
    return {}


def test_one_up_protects_all(fleet: Fleet, seconds: dict[str, list[int]]) -> None:
    steps = fleet.up("site-local")
    assert steps.count("create Protection") == len(fleet.servers)
    took = fleet.wait_for_deltas()
    seconds |= {name: [each] for name, each in took.items()}


def test_a_point_is_what_all_disks_held(fleet: Fleet, known: dict[str, compare.ShopState], tmp_path: Path) -> None:
    for name, estate in fleet.servers.items():
        known[name] = compare.shop_state("127.0.0.1", estate.source.port(SHOP_PORT))
        pictures = [tmp_path / f"{name}-{index}.raw" for index in range(len(estate.source.drives))]
        point = estate.server.pictured_point(pictures, print)
        estate.source.kill()  # nothing newer than the picture comes
        assert estate.differing_chunks(point, *pictures) == [], name
        for picture in pictures:
            picture.unlink()


def test_the_plan_fails_over(fleet: Fleet, seconds: dict[str, list[int]]) -> None:
    for name, took in fleet.fail_over().items():
        seconds[name].append(took)
    assert fleet.preview(f"failover-{PLAN}-local") == []


def test_what_booted_is_what_was_lost(
    fleet: Fleet,
    shapes: tuple[Shape, ...],
    known: dict[str, compare.ShopState],
    seconds: dict[str, list[int]],
    rows: list[support.Row],
) -> None:
    for shape in shapes:
        machine = fleet.recovered(shape.name)
        state = compare.shop_state("127.0.0.1", machine.port(SHOP_PORT), upto=known[shape.name].orders)
        assert (state.chain, state.integrity) == (known[shape.name].chain, "ok"), shape.name
        rows.append(look(machine, shape, *seconds[shape.name]))


def test_the_page_says_so(rows: list[support.Row], shapes: tuple[Shape, ...]) -> None:
    assert [row.shape for row in rows] == list(shapes)
    written = {row.shape: row for row in (support.read(PAGE.read_text()) if PAGE.exists() else [])}
    if TOLD:
        written |= {row.shape: row for row in rows}
        PAGE.write_text(support.page(written.values()))
    for row in rows:
        said = written[row.shape]
        assert (row.kernel, row.python) == (said.kernel, said.python), "run `make prove-matrix SHAPES=short`"


def look(machine: SourceMachine, shape: Shape, replication_seconds: int, boot_seconds: int) -> support.Row:
    """Ask a recovered server what it is; it must be of `shape`."""
    assert machine.run(FIRMWARE).strip() == shape.firmware
    assert machine.run("cut -d. -f1 /etc/debian_version").strip() == str(shape.debian)
    source, kind = machine.run("findmnt -n -v -o SOURCE,FSTYPE /").split()
    assert kind == shape.file_system
    below = machine.run(f"lsblk -n -s -o TYPE,NAME {source}").split("\n")
    types = [line.split()[0] for line in below if line.strip()]
    assert set(types) == STACK[shape.layout], shape.name
    assert types.count("disk") == shape.disks, shape.name
    kernel = machine.run("uname -r").split(".")
    python = machine.run("python3 -c 'import sys; print(*sys.version_info[:2])'").split()
    today = datetime.now(UTC).date().isoformat()
    return support.Row(shape, ".".join(kernel[:2]), ".".join(python), replication_seconds, boot_seconds, today)
