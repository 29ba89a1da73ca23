"""Recovery points of real databases at work: PostgreSQL under pgbench, and MariaDB."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.agent.databases import Database, Ledger, MariaDb, PostgreSql
from tests.agent.protected import MIB, LoopDisk, Protected, wait_for
from tests.agent.test_agent_cut import ended
from tests.agent.whole_site import Site

pytestmark = [pytest.mark.real, pytest.mark.timeout(240)]

# What a database acknowledges and has not written down yet: only the drop-in makes it part of a point.
LAZY_POSTGRESQL = ("-c", "synchronous_commit=off", "-c", "wal_writer_delay=10s", "-c", "bgwriter_delay=10s")
LAZY_MARIADB = ("--innodb-flush-log-at-trx-commit=0", "--innodb-flush-log-at-timeout=1000")
SUMS = "SELECT (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT coalesce(sum(delta), 0) FROM pgbench_history);"
COUNT = "SELECT count(*), coalesce(max(n), 0) FROM ledger;"


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that a database's own user can reach, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="lifeboat-databases-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


class Rig:
    """A database on a protected disk, and a place for what its points hold."""

    def __init__(self, protected: Protected, site: Site, public: Path, kind: type[Database]) -> None:
        self.protected, self.site, self.public = protected, site, public
        self.disk = protected.disk("os", 700 * MIB)
        self.folder = self._mounted(self.disk, "source", make=True)
        protected.mounts.append(self.folder)
        home = public / "home"
        home.mkdir()
        self.database = kind(self.folder, home)
        self.database.make()

    def protect(self) -> None:
        use = "postgresql" if isinstance(self.database, PostgreSql) else "mariadb"
        application = {"name": "shop-db", "use": use, "settings": str(self.database.settings), "timeout_seconds": 30}
        self.protected.changes["applications"] = [application]
        self.protected.start()
        self.protected.wait_mode("delta", 60)

    def point(self, **how: bool) -> dict[str, Any]:
        """Have a point made and return its manifest."""
        outcome = ended(self.site, self.site.request_cut(**how))
        assert (outcome["state"], outcome["reason"]) == ("point", None), (outcome, self.protected.log.read_text())
        return next(each for each in self.site.manifests() if each["id"] == outcome["point"])

    @contextmanager
    def restored(self, manifest: dict[str, Any]) -> Iterator[Any]:
        """Start the database on the disk of a point."""
        content = self.site.replica("os", self.disk.size, manifest["disks"][0]["snapshot"])
        copy = LoopDisk(self.public, "copy", self.disk.size, content)
        folder = self._mounted(copy, "restored", make=False)
        home = self.public / "home-of-copy"
        home.mkdir()
        database = self.database.copy(folder, home)  # type: ignore[attr-defined]  # each kind has it
        try:
            (database.data / "postmaster.pid").unlink(missing_ok=True)
            database.start()
            yield database
        finally:
            database.stop()
            subprocess.run(["umount", str(folder)], check=True)
            copy.close()

    def _mounted(self, disk: LoopDisk, name: str, *, make: bool) -> Path:
        folder = self.public / name
        folder.mkdir()
        if make:
            subprocess.run(["mkfs.ext4", "-q", disk.device], check=True)
        subprocess.run(["mount", disk.device, str(folder)], check=True)
        return folder


@contextmanager
def busy_postgresql(rig: Rig, *options: str) -> Iterator[Ledger]:
    database = rig.database
    assert isinstance(database, PostgreSql)
    database.start("-c", "max_wal_size=300MB", *options)
    try:
        database.ask("CREATE TABLE ledger (n bigint PRIMARY KEY);")
        subprocess.run(database.bench("-i", "-q", "-s", "2"), check=True, capture_output=True)
        rig.protect()
        bench = subprocess.Popen(
            database.bench("-n", "-c", "4", "-T", "120"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        ledger = Ledger(database, "INSERT INTO ledger VALUES ({n}) RETURNING n;")
        try:
            wait_for("a busy database", lambda: ledger.acknowledged > 100, 30)
            time.sleep(2)
            yield ledger
        finally:
            ledger.stop()
            bench.terminate()
            bench.wait()
    finally:
        database.stop()


def numbers(database: Database) -> int:
    """Return the last number of the ledger, which has no gap."""
    count, last = (int(word) for word in database.ask(COUNT)[0].replace("|", "\t").split("\t"))
    assert count == last
    return last


def test_postgresql_has_written_everything_down_for_an_application_consistent_point(
    public: Path, protected: Protected, site: Site
) -> None:
    rig = Rig(protected, site, public, PostgreSql)
    with busy_postgresql(rig, *LAZY_POSTGRESQL) as ledger:
        committed = ledger.acknowledged
        manifest = rig.point(app_consistent=True)
        after = ledger.acknowledged
        wait_for("it goes on", lambda: ledger.acknowledged > after + 10, 10)
    assert (manifest["kind"], manifest["applications"]) == ("application-consistent", ["shop-db"])
    with rig.restored(manifest) as restored:
        assert committed <= numbers(restored)
        assert restored.redo_bytes() < 16 * MIB
        assert restored.ask(SUMS) == ["t"]


def test_postgresql_recovers_from_a_crash_consistent_point_with_all_that_it_had_acknowledged(
    public: Path, protected: Protected, site: Site
) -> None:
    rig = Rig(protected, site, public, PostgreSql)
    with busy_postgresql(rig) as ledger:
        cut = site.request_cut(barrier=True)
        wait_for("frozen", lambda: site.cut(cut)["state"] == "frozen", 30)
        acknowledged = ledger.acknowledged  # and none more before the thaw
        site.release(cut)
        outcome = ended(site, cut)
    assert outcome["state"] == "point", (outcome, protected.log.read_text())
    manifest = next(each for each in site.manifests() if each["id"] == outcome["point"])
    assert manifest["kind"] == "crash-consistent"
    with rig.restored(manifest) as restored:
        assert acknowledged <= numbers(restored) <= acknowledged + 1
        assert restored.ask(SUMS) == ["t"]


@contextmanager
def busy_mariadb(rig: Rig, *options: str) -> Iterator[Ledger]:
    database = rig.database
    database.start(*options)
    try:
        tables = "CREATE TABLE ledger (n BIGINT PRIMARY KEY) ENGINE=InnoDB; CREATE TABLE old (n BIGINT) ENGINE=MyISAM;"
        database.ask(f"CREATE DATABASE shop; USE shop; {tables}")
        rig.protect()
        insert = "INSERT INTO shop.ledger VALUES ({n}); INSERT INTO shop.old VALUES ({n}); SELECT {n};"
        ledger = Ledger(database, insert)
        try:
            wait_for("a busy database", lambda: ledger.acknowledged > 100, 30)
            yield ledger
        finally:
            ledger.stop()
    finally:
        database.stop()


def in_shop(database: Database, sql: str) -> list[str]:
    return database.ask(f"USE shop; {sql}")


@pytest.mark.parametrize("options", [(), LAZY_MARIADB], ids=["durable", "lazy"])
def test_mariadb_has_written_everything_down_for_an_application_consistent_point(
    public: Path, protected: Protected, site: Site, options: tuple[str, ...]
) -> None:
    rig = Rig(protected, site, public, MariaDb)
    with busy_mariadb(rig, *options) as ledger:
        committed = ledger.acknowledged
        manifest = rig.point(app_consistent=True)
        after = ledger.acknowledged
        wait_for("it goes on", lambda: ledger.acknowledged > after + 10, 10)
    assert (manifest["kind"], manifest["applications"]) == ("application-consistent", ["shop-db"])
    with rig.restored(manifest) as restored:
        count, last = (int(word) for word in in_shop(restored, COUNT)[0].split("\t"))
        assert count == last >= committed
        old = int(in_shop(restored, "SELECT count(*) FROM old;")[0])
        if options:
            assert old >= committed  # what a lazy server was told after the checkpoint is in this kind of table alone
        else:
            assert old in (last, last - 1)
        # A table without transactions needs no repair: it was on disk.
        assert in_shop(restored, "CHECK TABLE old;") == ["shop.old\tcheck\tstatus\tOK"]


def test_mariadb_recovers_from_a_crash_consistent_point_with_all_that_it_had_acknowledged(
    public: Path, protected: Protected, site: Site
) -> None:
    rig = Rig(protected, site, public, MariaDb)
    with busy_mariadb(rig) as ledger:
        cut = site.request_cut(barrier=True)
        wait_for("frozen", lambda: site.cut(cut)["state"] == "frozen", 30)
        acknowledged = ledger.acknowledged
        site.release(cut)
        outcome = ended(site, cut)
    assert outcome["state"] == "point", (outcome, protected.log.read_text())
    manifest = next(each for each in site.manifests() if each["id"] == outcome["point"])
    with rig.restored(manifest) as restored:
        count, last = (int(word) for word in in_shop(restored, COUNT)[0].split("\t"))
        assert count == last
        assert acknowledged <= last <= acknowledged + 1


def test_mariadb_keeps_commits_back_until_the_thaw_and_not_longer(
    public: Path, protected: Protected, site: Site
) -> None:
    rig = Rig(protected, site, public, MariaDb)
    with busy_mariadb(rig) as ledger:
        cut = site.request_cut(barrier=True, app_consistent=True)
        wait_for("frozen", lambda: site.cut(cut)["state"] == "frozen", 30)
        before = ledger.acknowledged
        time.sleep(0.5)
        assert ledger.acknowledged <= before + 1
        protected.kill()  # the lock must not outlive who took it
        wait_for("it goes on", lambda: ledger.acknowledged > before + 10, 10)


def test_a_database_that_does_not_answer_is_named(public: Path, protected: Protected, site: Site) -> None:
    rig = Rig(protected, site, public, PostgreSql)
    rig.protect()
    outcome = ended(site, site.request_cut(app_consistent=True))
    assert (outcome["state"], outcome["reason"]["code"]) == ("point", "application-failed")
    assert (
        "application shop-db: CHECKPOINT: exit code 2: psql: error: connection to server on socket"
        in (outcome["reason"]["message"])
    )
    assert site.manifests()[-1]["kind"] == "crash-consistent"
