"""Every name Lifeboat gives to something, in one place, deterministic from the declaration alone.

A laptop in a disaster derives the same names from the YAML and finds vault, blobs and networks without asking
any state. Lengths and alphabets follow Azure's naming rules (storage account: 3 to 24 lower-case letters and
digits, unique in the world, hence the hash of the subscription).
"""

from __future__ import annotations

import hashlib
import re
import uuid

from dr.model import Site

REPLICAS = "replicas"
MANIFESTS = "manifests"
RUNS = "runs"
STATE = "state"
RETENTION = "retention"
OBSERVED = "observed"  # what retention itself saw, written by nobody else
REGISTER = "register"  # what is revoked, which a rebuilt site must know
PINS = "pins/"  # in container retention
# A run's id is a part of names that Azure limits to 80 characters (`managed_disk` is the longest).
RUN_LENGTH = 24
RUN_PATTERN = re.compile(r"(?=.{1,24}\Z)[A-Za-z0-9]+(-[A-Za-z0-9]+)*")
_ROLES = uuid.UUID("5b7c4d0e-2f7b-4c58-9a57-1c1f5f8a6e21")
CONTAINERS = (REPLICAS, MANIFESTS, RUNS, STATE, RETENTION, OBSERVED, REGISTER)


def vault_resource_group(site: Site) -> str:
    """The declared name, where a company has rules for them; so every name that lies in it asks here."""
    return site.resource_groups.vault or f"rg-lifeboat-{site.name}-vault"


def site_resource_group(site: Site) -> str:
    """As `vault_resource_group`."""
    return site.resource_groups.site or f"rg-lifeboat-{site.name}-site"


def run_resource_group(plan: str, run: str) -> str:
    return f"rg-lifeboat-failover-{plan}-{run}"


def recovery_vault(site: str) -> str:
    return f"rsv-lifeboat-{site}"


def storage_account(site: str, subscription: str) -> str:
    return f"stlb{_letters(site)}{_digest(site, subscription)}"


def key_vault(site: str, subscription: str) -> str:
    """The vault stack's key store; at most 24 letters, digits and hyphens, unique in the world."""
    return f"kv-lb-{_letters(site)}-{_digest(site, subscription)}"


def state_resource_group(site: str) -> str:
    """What `dr bootstrap` makes lies in a group of its own: the stacks' state is there before any stack."""
    return f"rg-lifeboat-{site}-state"


def state_account(site: str, subscription: str) -> str:
    return f"stlbst{_letters(site)}{_digest(site, subscription)}"


def state_key_vault(site: str, subscription: str) -> str:
    return f"kv-lbs-{_letters(site)}-{_digest(site, subscription)}"


STATE_KEY = "pulumi-state"  # encrypts the secrets of the stacks' state


def _letters(site: str) -> str:
    return "".join(c for c in site if c.isalnum()).lower()[:8]


def _digest(site: str, subscription: str) -> str:
    return hashlib.sha256(f"{subscription}/{site}".encode()).hexdigest()[:8]


def wrapping_key(site: str) -> str:
    return f"wrap-{site}"


def retention_identity(site: str) -> str:
    return f"id-lifeboat-{site}-retention"


def retention_environment(site: str) -> str:
    return f"cae-lifeboat-{site}"


def retention_job(site: str, subscription: str) -> str:
    """2 to 32 lower-case letters, digits and hyphens."""
    return f"job-{storage_account(site, subscription).removeprefix('stlb')}"


def vault_network(site: str) -> str:
    return f"vnet-{site}-vault"


def vault_endpoint(site: str, place: str, part: str) -> str:
    """The private endpoint of the vault's `part` ("blob" or "vault") in `place`: "site" or "vault"."""
    return f"pe-lifeboat-{site}-{place}-{part}"


def delete_lock(site: str) -> str:
    return f"lock-lifeboat-{site}"


def role(site: str, subscription: str, word: str) -> str:
    """Id of the custom role `word` (a GUID, the same on every machine)."""
    return str(uuid.uuid5(_ROLES, f"{subscription}/{site}/{word}"))


def assignment(role_id: str, scope: str, principal: str) -> str:
    """Id of a role assignment; `principal` names the holder, whose id may not be known yet."""
    return str(uuid.uuid5(_ROLES, f"{role_id}/{scope}/{principal}"))


def storage_account_id(site: Site, subscription: str) -> str:
    """The account's resource id, known without asking the vault's stack."""
    group = f"/subscriptions/{subscription}/resourceGroups/{vault_resource_group(site)}"
    return f"{group}/providers/Microsoft.Storage/storageAccounts/{storage_account(site.name, subscription)}"


def key_vault_id(site: Site, subscription: str) -> str:
    """As `storage_account_id`."""
    group = f"/subscriptions/{subscription}/resourceGroups/{vault_resource_group(site)}"
    return f"{group}/providers/Microsoft.KeyVault/vaults/{key_vault(site.name, subscription)}"


def certificate_authority(site: str) -> str:
    return f"ca-{site}"


def virtual_network(site: str) -> str:
    return f"vnet-{site}"


def drill_network(site: str) -> str:
    return f"vnet-{site}-drill"


def security_group(site: str, subnet: str) -> str:
    return f"nsg-{site}-{subnet}"


def drill_security_group(site: str, subnet: str) -> str:
    # "--" is in no declared name, so no production subnet can have this one.
    return f"nsg-{site}--drill-{subnet}"


def nat_gateway(site: str) -> str:
    return f"ng-{site}"


def public_address(site: str, purpose: str) -> str:
    return f"pip-{site}-{purpose}"


def bastion(site: str) -> str:
    return f"bas-{site}"


def bastion_security_group(site: str) -> str:
    return f"nsg-{site}--bastion"


def gateway(site: str) -> str:
    return f"vgw-{site}"


def gateway_peer(site: str) -> str:
    return f"lgw-{site}"


def connection(site: str) -> str:
    return f"con-{site}"


def capacity_group(site: str, zone: str | None) -> str:
    return f"crg-{site}" if zone is None else f"crg-{site}-zone{zone}"


def reservation(size: str, zone: str | None) -> str:
    plain = size.lower().replace("_", "-")
    return f"cr-{plain}" if zone is None else f"cr-{plain}-zone{zone}"


def budget(site: str) -> str:
    return f"budget-lifeboat-{site}"


def action_group(site: str) -> str:
    return f"ag-lifeboat-{site}"


def workspace(site: str) -> str:
    return f"log-lifeboat-{site}"


def alert(site: str, what: str) -> str:
    return f"alert-{site}-{what}"


def replica_blob(server: str, disk: str) -> str:
    return f"{server}/{disk}.vhd"


def digests_blob(server: str, disk: str) -> str:
    return f"{server}/{disk}.digests"


def writer_blob(server: str) -> str:
    return f"{server}/writer.json"


def manifest_blob(server: str, protection_epoch: int, number: int) -> str:
    return f"{server}/{protection_epoch:06d}-{number:010d}.json"


def pin_blob(server: str, point: str) -> str:
    return f"{PINS}{server}/{point}"


def observed_blob(server: str) -> str:
    return f"{server}.json"


def point_id(server: str, protection_epoch: int, number: int) -> str:
    return f"{server}-{protection_epoch}-{number}"


def run_copy_blob(plan: str, run: str, server: str, disk: str) -> str:
    return f"{plan}/{run}/{server}/{disk}.vhd"


def managed_disk(run: str, server: str, disk: str) -> str:
    return f"disk-{server}-{disk}-{run}"


def nic(run: str, server: str) -> str:
    return f"nic-{server}-{run}"


def virtual_machine(target: str) -> str:
    return target


def subnet_id_suffix(site: Site, subnet: str) -> str:
    """The subnet's resource id behind `/subscriptions/ID`, known without asking the site's stack."""
    group = f"/resourceGroups/{site_resource_group(site)}"
    return f"{group}/providers/Microsoft.Network/virtualNetworks/{virtual_network(site.name)}/subnets/{subnet}"


def capacity_group_id_suffix(site: Site, zone: str | None) -> str:
    """As `subnet_id_suffix`, of the reservation group that a VM in `zone` draws on."""
    group = f"/resourceGroups/{site_resource_group(site)}"
    return f"{group}/providers/Microsoft.Compute/capacityReservationGroups/{capacity_group(site.name, zone)}"


def health_check(server: str, kind: str, port: int, path: str, command: str | None = None) -> str:
    """The check's name; two checks of one port differ by their path or command."""
    name, detail = f"check-{server}-{kind}-{port}", command or path
    return name if detail == "/" else f"{name}-{hashlib.sha256(detail.encode()).hexdigest()[:8]}"


def action(step: str) -> str:
    return f"action-{step}"


TAG_SITE = "lifeboat-site"
TAG_PLAN = "lifeboat-plan"
TAG_RUN = "lifeboat-run"
TAG_SERVER = "lifeboat-server"
TAG_POINT = "lifeboat-point"  # added by the program, which knows the point
