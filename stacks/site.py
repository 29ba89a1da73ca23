"""The stack `site-TARGET`: the landing zone, what the site's servers need, and the protection of each server."""

from __future__ import annotations

import pulumi
from pulumi_azure_native import resources

from dr.compile.blueprint import SiteBlueprint
from dr.compile.zone_blueprint import ZoneBlueprint
from stacks.components.bastion import Bastion
from stacks.components.capacity import Capacity
from stacks.components.gateway import Gateway
from stacks.components.name_resolution import PrivateZone
from stacks.components.networks import VirtualNetwork
from stacks.components.outbound import Outbound
from stacks.components.private_endpoint import private_endpoint
from stacks.components.setting import Setting
from stacks.components.spending import Spending
from stacks.components.watch import Logged, Watch
from stacks.options import named
from stacks.resources import Protection, Retention, SiteServers, VaultAccess


def program(blueprint: SiteBlueprint, subscription: str, *, gateway_secret: str | None = None) -> None:
    """Declare the landing zone, `dr serve`'s configuration and one protection for each server.

    `gateway_secret` is what the gateway's secret reference stands for, revealed before anything is registered.
    """
    group = resources.ResourceGroup(
        blueprint.resource_group,
        resource_group_name=blueprint.resource_group,
        location=blueprint.location,
        tags=dict(blueprint.tags),
        opts=named(),
    )
    setting = Setting(subscription, group, blueprint.location, blueprint.tags)
    production = _zone(
        blueprint.zone, setting, None if gateway_secret is None else pulumi.Output.secret(gateway_secret)
    )
    _vault_endpoints(blueprint, setting, production)
    Retention(blueprint.site, blueprint=blueprint, subscription=subscription, opts=named())
    access = VaultAccess(blueprint.site, blueprint=blueprint, subscription=subscription, opts=named())
    servers = SiteServers(blueprint.site, blueprint=blueprint, subscription=subscription, opts=named(after=[access]))
    for protection in blueprint.protections:
        Protection(
            protection.server,
            blueprint=blueprint,
            protection=protection,
            subscription=subscription,
            opts=named(after=[servers]),
        )
    pulumi.export("resourceGroup", group.name)
    pulumi.export("servers", [protection.server for protection in blueprint.protections])


def _zone(zone: ZoneBlueprint, setting: Setting, gateway_secret: pulumi.Output[str] | None) -> VirtualNetwork:
    outbound = Outbound("outbound", blueprint=zone.nat, setting=setting)
    production = VirtualNetwork("production", blueprint=zone.production, setting=setting, nat=outbound.gateway.id)
    logged = {zone.nat.public_address: Logged(outbound.address)}
    if zone.bastion is not None:
        bastion = Bastion("bastion", blueprint=zone.bastion, setting=setting, production=production)
        logged[zone.bastion.host] = Logged(bastion.host)
        logged[zone.bastion.public_address] = Logged(bastion.address)
    if zone.gateway is not None:
        gateway = Gateway(
            "gateway", blueprint=zone.gateway, setting=setting, production=production, secret=gateway_secret
        )
        logged[zone.gateway.gateway] = Logged(gateway.gateway)
        logged[zone.gateway.public_address] = Logged(gateway.address)
    if zone.private_zone is not None:
        PrivateZone("names", blueprint=zone.private_zone, setting=setting, production=production)
    security_groups = dict(production.security_groups)
    if zone.drill is not None:
        drill = VirtualNetwork("drill", blueprint=zone.drill, setting=setting, nat=None)
        security_groups |= drill.security_groups
    if zone.capacity:
        Capacity("capacity", blueprints=zone.capacity, setting=setting)
    logged |= {name: Logged(group, metrics=False) for name, group in security_groups.items()}
    watch = None if zone.watch is None else Watch("watch", blueprint=zone.watch, setting=setting, logged=logged)
    if zone.budget is not None:
        action_group = None if watch is None else watch.action_group
        Spending("spending", blueprint=zone.budget, setting=setting, action_group=action_group)
    return production


def _vault_endpoints(blueprint: SiteBlueprint, setting: Setting, production: VirtualNetwork) -> None:
    """Declare the site's private ways to the vault; they are the site's, and go with it."""
    for endpoint in blueprint.vault_endpoints:
        subnet_id = setting.id(endpoint.subnet_id_suffix)
        private_endpoint(
            endpoint,
            group=setting.group,
            location=setting.location,
            network_id=subnet_id.rpartition("/subnets/")[0],
            subnet_id=subnet_id,
            tags=setting.tags,
            options=lambda: named(after=[production]),
        )
