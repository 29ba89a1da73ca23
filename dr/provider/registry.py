"""All types of the provider, each given the world it works on."""

from __future__ import annotations

from collections.abc import Mapping

from dr.provider.action import Action
from dr.provider.blob_copy import BlobCopy
from dr.provider.certificate_authority import CertificateAuthority
from dr.provider.health_check import HealthCheck
from dr.provider.protection import Protection
from dr.provider.recovery_point import RecoveryPoint
from dr.provider.resource import ResourceType
from dr.provider.retention import Retention
from dr.provider.site_servers import SiteServers
from dr.provider.vault_access import VaultAccess
from dr.provider.world import World


def registry(world: World) -> Mapping[str, ResourceType]:
    """Return token to type."""
    types: tuple[ResourceType, ...] = (
        CertificateAuthority(world),
        VaultAccess(world),
        Retention(world),
        SiteServers(world),
        Protection(world),
        RecoveryPoint(world),
        BlobCopy(world),
        HealthCheck(world),
        Action(world),
    )
    return {kind.token: kind for kind in types}
