"""A world for the provider's types that is all ours: stores and keys in memory, a scripted agent installation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from dr.certificates.site import SiteCertificates
from dr.compile.blueprint import ProtectionBlueprint
from dr.errors import LifeboatError, NotFound
from dr.provider.resource import Session
from dr.provider.world import World
from dr.push.credentials import Secrets
from dr.push.install import Installed
from dr.vault import manifest as manifests
from dr.vault.manifest import DiskPoint, Manifest
from dr.vault.memory import MemoryBlobStore

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
AGENT = b"the agent as it is now"
SUBSCRIPTION = "00000000-10ca-4000-8000-000000000000"


@dataclass
class MemoryKeys:
    secrets: dict[str, bytes] = field(default_factory=dict)

    def get(self, name: str) -> bytes:
        if name not in self.secrets:
            raise NotFound(f"no secret {name}")
        return self.secrets[name]

    def put(self, name: str, secret: bytes) -> None:
        self.secrets[name] = secret

    def delete(self, name: str) -> None:
        self.secrets.pop(name, None)


@dataclass
class ScriptedPush:
    """Plays one server: what is installed, and the error that the next call ends with."""

    installed: Installed | None = None
    error: LifeboatError | None = None
    calls: list[str] = field(default_factory=list)

    def install(
        self,
        protection: ProtectionBlueprint,
        *,
        site: str,
        certificates: SiteCertificates,
        package: Path,
        protection_epoch: int,
        secrets: Secrets,
        progress: Callable[[str], None],
        interrupted: Callable[[], bool],
    ) -> Installed:
        self._call("install")
        before, self.installed = self.installed, healthy()
        return self.installed if before else replace(self.installed, changed=("start of the agent",))

    def inspect(
        self,
        protection: ProtectionBlueprint,
        *,
        certificates: SiteCertificates,
        secrets: Secrets,
        progress: Callable[[str], None],
    ) -> Installed | None:
        self._call("inspect")
        return self.installed

    def adopt(
        self,
        protection: ProtectionBlueprint,
        *,
        site: str,
        certificates: SiteCertificates,
        secrets: Secrets,
        progress: Callable[[str], None],
    ) -> Installed | None:
        self._call("adopt")
        return self.installed

    def remove(
        self,
        protection: ProtectionBlueprint,
        *,
        secrets: Secrets,
        progress: Callable[[str], None],
        interrupted: Callable[[], bool],
    ) -> bool:
        self._call("remove")
        there, self.installed = self.installed is not None, None
        return there

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.error is not None:
            raise self.error


def healthy(*, problems: tuple[str, ...] = ()) -> Installed:
    return Installed(
        package_sha256=hashlib.sha256(AGENT).hexdigest(),
        config={},
        certificate_sha256="bb",
        certificate_end=NOW + timedelta(days=90),
        unit_state="active",
        digest="cc",
        problems=problems,
    )


@dataclass
class Surroundings:
    """The parts behind one world, to look at from a test."""

    folder: Path
    store: MemoryBlobStore = field(default_factory=MemoryBlobStore)
    keys: MemoryKeys = field(default_factory=MemoryKeys)
    push: ScriptedPush = field(default_factory=ScriptedPush)
    configuration: dict[str, str] = field(default_factory=dict)
    now: datetime = NOW
    rebuilding: bool = False
    endpoint: tuple[str, int] = ("127.0.0.1", 1)
    access_until: datetime | None = NOW + timedelta(days=90)
    access_calls: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store.clock = lambda: self.now

    @property
    def world(self) -> World:
        return World(
            open_store=lambda subscription, account: self.store,
            give_access=self._give_access,
            end_access=lambda subscription, account: self.access_calls.append(f"end {account}"),
            key_store=lambda subscription: self.keys,
            reach=lambda subscription, resource_group, vm_name, address, port: self.endpoint,
            push=lambda: self.push,
            agent_package=self._agent_package,
            site=self.folder / "site",
            configuration=self.configuration,
            now=lambda: self.now,
            rebuilding=self.rebuilding,
        )

    def _give_access(self, subscription: str, account: str) -> datetime | None:
        self.access_calls.append(f"give {account}")
        if self.access_until is not None:
            path = self.folder / "site" / "keys" / "vault.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("the login")
        return self.access_until

    def _agent_package(self) -> Path:
        path = self.folder / "agent.pyz"
        if not path.exists():
            path.write_bytes(AGENT)
        return path

    @property
    def session(self) -> Session:
        return Session(warn=self.warnings.append)


def add_point(
    store: MemoryBlobStore,
    number: int,
    *,
    content: bytes = b"\1" * 512,
    server: str = "shop1",
    size_bytes: int = 1 << 20,  # of the disk, as the manifest says it; the blob stays small
) -> Manifest:
    """Write a replica's page, snapshot it and store a manifest of it."""
    blob, digests = f"{server}/os.vhd", f"{server}/os.digests"
    if number == 1:
        store.create_pages("replicas", blob, 1 << 20, {"sequence": "1"})
        store.create_pages("replicas", digests, 512, {})
    store.write_pages("replicas", blob, 0, content)
    disk = DiskPoint(
        "os",
        size_bytes,
        blob,
        store.snapshot("replicas", blob),
        digests,
        store.snapshot("replicas", digests),
        "00" * 32,
    )
    cut = NOW - timedelta(minutes=60 - number)
    point = Manifest(
        id=f"{server}-1-{number}",
        server=server,
        site="harbour",
        protection_epoch=1,
        number=number,
        kind="crash-consistent",
        cut_time=cut,
        created_time=cut,
        sequence=number,
        writer_epoch=1,
        frozen=("/",),
        not_frozen=(),
        freeze_ms=1.0,
        firmware="bios",
        facts={},
        disks=(disk,),
    )
    store.put("manifests", point.blob, manifests.to_bytes(point), if_absent=True)
    return point
