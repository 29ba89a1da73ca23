"""The resource types of the provider "dr" as the programs use them.

Only their shape: what they do is in `dr/provider`. Names on the wire are camelCase, as everywhere in Pulumi.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

import pulumi

from dr.compile.blueprint import CheckBlueprint, ProtectionBlueprint, ReplicationGroup, SiteBlueprint
from dr.model import Application, SecretReference, Ssh


def output(resource: pulumi.CustomResource, name: str) -> pulumi.Output[Any]:
    return cast("pulumi.Output[Any]", pulumi.get(resource, name))


class CertificateAuthority(pulumi.CustomResource):
    """The site's private CA; `certificate` is its public part."""

    def __init__(
        self, name: str, *, authority: str, site: str, subscription: str, opts: pulumi.ResourceOptions
    ) -> None:
        properties = {"name": authority, "site": site, "subscription": subscription, "certificate": None}
        super().__init__("dr:index:CertificateAuthority", name, properties, opts)

    @property
    def certificate(self) -> pulumi.Output[str]:
        return output(self, "certificate")


class VaultAccess(pulumi.CustomResource):
    """The login of the site's servers at the vault."""

    def __init__(self, name: str, *, blueprint: SiteBlueprint, subscription: str, opts: pulumi.ResourceOptions) -> None:
        properties = {
            "site": blueprint.site,
            "subscription": subscription,
            "storageAccount": blueprint.storage_account,
            "until": None,
        }
        super().__init__("dr:index:VaultAccess", name, properties, opts)


class Retention(pulumi.CustomResource):
    """What the vault is told about how long points live."""

    def __init__(self, name: str, *, blueprint: SiteBlueprint, subscription: str, opts: pulumi.ResourceOptions) -> None:
        properties = {
            "site": blueprint.site,
            "subscription": subscription,
            "storageAccount": blueprint.storage_account,
            "servers": {each.server: each.retention_seconds for each in blueprint.protections},
        }
        super().__init__("dr:index:Retention", name, properties, opts)


class SiteServers(pulumi.CustomResource):
    """Configuration and certificates of the site's configuration server and process servers."""

    def __init__(self, name: str, *, blueprint: SiteBlueprint, subscription: str, opts: pulumi.ResourceOptions) -> None:
        properties = {
            "site": blueprint.site,
            "subscription": subscription,
            "storageAccount": blueprint.storage_account,
            "certificateAuthority": blueprint.certificate_authority,
            "configurationServer": blueprint.configuration_server,
            "processServers": [{"name": name, "address": address} for name, address in blueprint.process_servers],
            "servers": {protection.server: _policy(protection) for protection in blueprint.protections},
        }
        super().__init__("dr:index:SiteServers", name, properties, opts)


def _policy(protection: ProtectionBlueprint) -> dict[str, Any]:
    # The keys are those of config.json, which `dr serve` reads. Failover raises the epoch; a declaration starts at 1.
    return {
        "protection_epoch": 1,
        "rpo_threshold_seconds": protection.rpo_threshold_seconds,
        "crash_consistent_seconds": protection.crash_consistent_seconds,
        "retention_seconds": protection.retention_seconds,
        "traffic": asdict(protection.traffic),
        "verify_seconds": protection.verify_seconds,
        **({"group": asdict(protection.group)} if protection.group else {}),
        "app_consistent_seconds": protection.app_consistent_seconds,
    }


class Protection(pulumi.CustomResource):
    """The agent on one server."""

    def __init__(
        self,
        name: str,
        *,
        blueprint: SiteBlueprint,
        protection: ProtectionBlueprint,
        subscription: str,
        opts: pulumi.ResourceOptions,
    ) -> None:
        properties = {
            "site": blueprint.site,
            "subscription": subscription,
            "certificateAuthority": blueprint.certificate_authority,
            "server": protection.server,
            "ssh": ssh_properties(protection.ssh),
            "disks": [
                {"name": disk.name, "device": disk.device, "replica": disk.replica, "digests": disk.digests}
                for disk in protection.disks
            ],
            "processServers": list(protection.process_servers),
            "configurationServer": protection.configuration_server,
            "firmware": protection.firmware,
            "groupPort": protection.group.port if protection.group else None,
            "applications": [_application(each) for each in protection.applications],
            "initialPolicy": {
                "crashConsistentSeconds": protection.crash_consistent_seconds,
                "rpoThresholdSeconds": protection.rpo_threshold_seconds,
                "retentionSeconds": protection.retention_seconds,
            },
        }
        # The agent hears of a changed policy with its next heartbeat: no reason to touch the server.
        opts = pulumi.ResourceOptions.merge(opts, pulumi.ResourceOptions(ignore_changes=["initialPolicy"]))
        super().__init__("dr:index:Protection", name, properties, opts)


def ssh_properties(ssh: Ssh) -> dict[str, Any]:
    """Return a login as a resource's property; `dr.provider.logins` reads it."""
    # References to secrets and no secret: the state keeps these inputs as plain text.
    jump = ssh.jump
    return {
        "address": ssh.address,
        "port": ssh.port,
        "user": ssh.user,
        "hostKey": ssh.host_key,
        "keyFile": ssh.key_file,
        "keyEnv": ssh.key_env,
        "password": reference_properties(ssh.password),
        "sudoPassword": reference_properties(ssh.sudo_password),
        "jump": None
        if jump is None
        else {
            "address": jump.address,
            "port": jump.port,
            "user": jump.user,
            "hostKey": jump.host_key,
            "keyFile": jump.key_file,
            "keyEnv": jump.key_env,
        },
    }


def _application(application: Application) -> dict[str, Any]:
    return {
        "name": application.name,
        "use": application.use,
        "settings": application.settings,
        "pre": list(application.pre),
        "post": list(application.post),
        "timeoutSeconds": application.timeout_seconds,
    }


def reference_properties(reference: SecretReference | None) -> dict[str, str | None] | None:
    if reference is None:
        return None
    return {"env": reference.env, "file": reference.file, "keyStore": reference.key_store}


class RecoveryPoint(pulumi.CustomResource):
    """The point of one server that a selector stood for when the run began."""

    def __init__(
        self,
        name: str,
        *,
        subscription: str,
        account: str,
        server: str,
        plan: str,
        run: str,
        selector: str,
        group: ReplicationGroup | None,
        opts: pulumi.ResourceOptions,
    ) -> None:
        properties = {
            "subscription": subscription,
            "account": account,
            "server": server,
            "plan": plan,
            "run": run,
            "selector": selector,
            "replicationGroup": None if group is None else {"name": group.name, "members": list(group.members)},
            "pointId": None,
            "cutTime": None,
            "firmware": None,
            "disks": None,
            "selectedTime": None,
        }
        super().__init__("dr:index:RecoveryPoint", name, properties, opts)

    @property
    def point_id(self) -> pulumi.Output[str]:
        return output(self, "pointId")

    @property
    def cut_time(self) -> pulumi.Output[str]:
        return output(self, "cutTime")

    @property
    def selected_time(self) -> pulumi.Output[str]:
        """When the run chose it."""
        return output(self, "selectedTime")

    def blob(self, disk: str) -> pulumi.Output[str]:
        """Return the replica that the disk's content is in."""
        return output(self, "disks").apply(lambda disks: _disk(disks, disk)["blob"])

    def snapshot(self, disk: str) -> pulumi.Output[str]:
        """Return the snapshot of that replica."""
        return output(self, "disks").apply(lambda disks: _disk(disks, disk)["snapshot"])


def _disk(disks: Sequence[Any], name: str) -> Any:
    return next(disk for disk in disks if disk["name"] == name)


class BlobCopy(pulumi.CustomResource):
    """A copy of one snapshot; `url` is what a managed disk is imported from."""

    def __init__(
        self,
        name: str,
        *,
        subscription: str,
        account: str,
        source_container: str,
        source_blob: pulumi.Input[str],
        snapshot: pulumi.Input[str],
        container: str,
        blob: str,
        opts: pulumi.ResourceOptions,
    ) -> None:
        properties = {
            "subscription": subscription,
            "account": account,
            "sourceContainer": source_container,
            "sourceBlob": source_blob,
            "snapshot": snapshot,
            "container": container,
            "blob": blob,
            "url": None,
            "sizeBytes": None,
        }
        super().__init__("dr:index:BlobCopy", name, properties, opts)

    @property
    def url(self) -> pulumi.Output[str]:
        return output(self, "url")


class HealthCheck(pulumi.CustomResource):
    """Passes when a recovered server answers."""

    def __init__(
        self,
        name: str,
        *,
        subscription: str,
        resource_group: pulumi.Input[str],
        vm_name: pulumi.Input[str],
        address: str,
        check: CheckBlueprint,
        triggers: Sequence[pulumi.Input[str]],
        opts: pulumi.ResourceOptions,
    ) -> None:
        properties = {
            "subscription": subscription,
            "resourceGroup": resource_group,
            "vmName": vm_name,
            "address": address,
            "kind": check.kind,
            "port": check.port,
            "path": check.path or None,
            "status": check.status or None,
            "contains": check.contains,
            "command": check.command,
            "engine": check.engine,
            "server": None if check.ssh is None else check.server,
            "ssh": None if check.ssh is None else ssh_properties(check.ssh),
            "timeout": check.timeout_seconds,
            "triggers": list(triggers),
            "state": None,
            "passedAt": None,
            "endpoint": None,
            "lastAnswer": None,
        }
        super().__init__("dr:index:HealthCheck", name, properties, opts)

    @property
    def passed_at(self) -> pulumi.Output[str]:
        return output(self, "passedAt")

    @property
    def endpoint(self) -> pulumi.Output[str]:
        return output(self, "endpoint")
