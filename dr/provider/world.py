"""Everything the resource types touch, handed to them in one record.

Imports of stores and SSH are late: a provider that only issues certificates need not load the Azure SDK.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from dr.target.folders import Folders

if TYPE_CHECKING:
    from dr.certificates.site import SiteCertificates
    from dr.compile.blueprint import ProtectionBlueprint
    from dr.push.credentials import Secrets
    from dr.push.install import Installed
    from dr.target.secrets import KeyStore
    from dr.vault.store import BlobStore

REBUILDING = "LIFEBOAT_REBUILDING"  # set by `dr rebuild` alone (`dr.rebuild.work`), to the site's name


class Reach(Protocol):
    def __call__(
        self, subscription: str, resource_group: str, vm_name: str, address: str, port: int
    ) -> tuple[str, int]:
        """Return host and port under which a VM's port is reached from here."""


class Pushing(Protocol):
    """What `dr.push.install` offers."""

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
    ) -> Installed: ...

    def inspect(
        self,
        protection: ProtectionBlueprint,
        *,
        certificates: SiteCertificates,
        secrets: Secrets,
        progress: Callable[[str], None],
    ) -> Installed | None: ...

    def adopt(
        self,
        protection: ProtectionBlueprint,
        *,
        site: str,
        certificates: SiteCertificates,
        secrets: Secrets,
        progress: Callable[[str], None],
    ) -> Installed | None: ...

    def remove(
        self,
        protection: ProtectionBlueprint,
        *,
        secrets: Secrets,
        progress: Callable[[str], None],
        interrupted: Callable[[], bool],
    ) -> bool: ...


@dataclass(frozen=True, slots=True)
class World:
    """The real one is `World.real()`."""

    open_store: Callable[[str, str], BlobStore]  # (subscription, account)
    give_access: Callable[[str, str], datetime | None]  # (subscription, account): the site's login; when it ends
    end_access: Callable[[str, str], None]  # (subscription, account)
    key_store: Callable[[str], KeyStore]  # (subscription)
    reach: Reach
    push: Callable[[], Pushing]
    agent_package: Callable[[], Path]  # the Mobility agent as one file
    site: Path  # the site's folder on this machine
    configuration: Mapping[str, str]  # settings `dr:…` of the stack
    now: Callable[[], datetime]
    rebuilding: bool = False  # `dr rebuild` takes over agents as they are

    @classmethod
    def real(cls, configuration: Mapping[str, str]) -> World:
        """Return the world of this machine and its environment."""
        return cls(
            open_store=_open_store,
            give_access=_give_access,
            end_access=_end_access,
            key_store=_key_store,
            reach=_reach,
            push=_push,
            agent_package=_agent_package,
            site=Folders.from_environment().site,
            configuration=configuration,
            now=lambda: datetime.now(UTC),
            rebuilding=bool(os.environ.get(REBUILDING)),
        )


def _open_store(subscription: str, account: str) -> BlobStore:
    from dr.target.stores import open_store  # noqa: PLC0415 - loads the Azure SDK

    return open_store(subscription, account)


def _give_access(subscription: str, account: str) -> datetime | None:
    from dr.target.stores import give_site_access  # noqa: PLC0415 - as above

    return give_site_access(subscription, account, Folders.from_environment(), datetime.now(UTC))


def _end_access(subscription: str, account: str) -> None:
    from dr.target.stores import end_site_access  # noqa: PLC0415 - as above

    end_site_access(subscription, account, Folders.from_environment())


def _key_store(subscription: str) -> KeyStore:
    from dr.target.secrets import key_store  # noqa: PLC0415 - loads cryptography

    return key_store(subscription)


def _reach(subscription: str, resource_group: str, vm_name: str, address: str, port: int) -> tuple[str, int]:
    from dr.target.reach import reach  # noqa: PLC0415 - loads the target

    return reach(subscription, resource_group, vm_name, address, port)


def _agent_package() -> Path:
    from dr.push.package import current_package  # noqa: PLC0415 - only protections ask for it

    return current_package()


def _push() -> Pushing:
    from dr.push import install  # noqa: PLC0415 - loads paramiko

    return install
