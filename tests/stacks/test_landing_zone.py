"""The landing zone under Pulumi's mocks: every resource with every property, and what each option adds."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from pulumi.runtime import rpc

from dr import compile as compiler
from dr.target.folders import LOCAL_SUBSCRIPTION
from stacks import failover
from tests.stacks.mocked import Recorder, mocked, plain
from tests.stacks.zones import EXPRESS_ROUTE, OPTIONS, SECRET, full, registered, with_site
from tests.stacks.zones import plain as plain_zone

FULL = json.loads((Path(__file__).parent / "data" / "landing-zone.json").read_bytes())
Made = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def whole() -> Recorder:
    return registered(full())


@pytest.fixture(scope="module")
def bare() -> Recorder:
    return registered(plain_zone())


def zone(made: Recorder) -> Made:
    """Return what Azure is asked for, `type::name` to inputs."""
    wanted = {key: args for key, args in made.made.items() if key.startswith("azure-native:")}
    return {key.removeprefix("azure-native:"): plain(dict(args.inputs)) for key, args in wanted.items()}


def difference(one: Made, two: Made) -> tuple[set[str], set[str]]:
    """Return (what only `two` has, what both have with other properties)."""
    assert one.keys() <= two.keys()
    return two.keys() - one.keys(), {key for key in one if one[key] != two[key]}


def test_every_resource_and_property_of_a_full_zone(whole: Recorder) -> None:
    made = zone(whole)
    assert made.keys() == FULL.keys()
    for key, inputs in FULL.items():
        assert made[key] == inputs, key


def test_nothing_optional_is_there_unless_it_is_declared(bare: Recorder) -> None:
    assert set(zone(bare)) == {
        "resources:ResourceGroup::rg-lifeboat-harbour-site",
        "network:PublicIPAddress::pip-harbour-nat",
        "network:NatGateway::ng-harbour",
        "network:VirtualNetwork::vnet-harbour",
        "network:NetworkSecurityGroup::nsg-harbour-shop",
        "network:NetworkSecurityGroup::nsg-harbour-db",
        "network:Subnet::vnet-harbour-shop",
        "network:Subnet::vnet-harbour-db",
    }


ADDED: dict[str, tuple[set[str], set[str]]] = {
    "drill_network": (
        {
            "network:VirtualNetwork::vnet-harbour-drill",
            "network:NetworkSecurityGroup::nsg-harbour--drill-shop",
            "network:NetworkSecurityGroup::nsg-harbour--drill-db",
            "network:Subnet::vnet-harbour-drill-shop",
            "network:Subnet::vnet-harbour-drill-db",
        },
        set(),
    ),
    "gateway": (
        {
            "network:Subnet::vnet-harbour-GatewaySubnet",
            "network:PublicIPAddress::pip-harbour-gateway",
            "network:VirtualNetworkGateway::vgw-harbour",
            "network:LocalNetworkGateway::lgw-harbour",
            "network:VirtualNetworkGatewayConnection::con-harbour",
        },
        set(),
    ),
    "private_dns_zone": (
        {
            "privatedns:PrivateZone::shop.example.internal",
            "privatedns:VirtualNetworkLink::shop.example.internal-production",
        },
        set(),
    ),
    "bastion": (
        {
            "network:NetworkSecurityGroup::nsg-harbour--bastion",
            "network:Subnet::vnet-harbour-AzureBastionSubnet",
            "network:PublicIPAddress::pip-harbour-bastion",
            "network:BastionHost::bas-harbour",
        },
        # Its sessions have to be let in by the servers' subnets.
        {"network:NetworkSecurityGroup::nsg-harbour-shop", "network:NetworkSecurityGroup::nsg-harbour-db"},
    ),
    "capacity_reservation": (
        {
            "compute:CapacityReservationGroup::crg-harbour",
            "compute:CapacityReservation::crg-harbour-cr-standard-d2s-v5",
            "compute:CapacityReservationGroup::crg-harbour-zone1",
            "compute:CapacityReservation::crg-harbour-zone1-cr-standard-d2s-v5-zone1",
        },
        set(),
    ),
    "budget": ({"consumption:Budget::budget-lifeboat-harbour"}, set()),
    "alerts": (
        {
            "monitor:ActionGroup::ag-lifeboat-harbour",
            "monitor:ActivityLogAlert::alert-harbour-vault-deletion",
            "monitor:ActivityLogAlert::alert-harbour-peering",
            "monitor:ActivityLogAlert::alert-harbour-resource-health",
            "monitor:ActivityLogAlert::alert-harbour-service-health",
            "operationalinsights:Workspace::log-lifeboat-harbour",
            "monitor:DiagnosticSetting::logs-of-pip-harbour-nat",
            "monitor:DiagnosticSetting::logs-of-nsg-harbour-shop",
            "monitor:DiagnosticSetting::logs-of-nsg-harbour-db",
        },
        set(),
    ),
}


@pytest.mark.parametrize("option", list(OPTIONS))
def test_an_option_adds_exactly_its_resources(bare: Recorder, option: str) -> None:
    with_it = zone(registered(with_site(plain_zone(), **{option: OPTIONS[option]})))
    assert difference(zone(bare), with_it) == ADDED[option]


def test_everything_carries_the_sites_tag_where_azure_has_tags(whole: Recorder) -> None:
    untagged = {key.partition("::")[0] for key, inputs in zone(whole).items() if not inputs.get("tags")}
    assert untagged == {"network:Subnet", "monitor:DiagnosticSetting", "consumption:Budget"}


def test_subnets_of_a_network_are_made_one_after_the_other(whole: Recorder) -> None:
    requests = {request.name: request for request in whole.requests}
    chains = (
        ["vnet-harbour-shop", "vnet-harbour-db", "vnet-harbour-AzureBastionSubnet", "vnet-harbour-GatewaySubnet"],
        ["vnet-harbour-drill-shop", "vnet-harbour-drill-db"],
    )
    for chain in chains:
        for before, after in itertools.pairwise(chain):
            assert before in {urn.rpartition("::")[2] for urn in requests[after].dependencies}


def test_the_shared_key_is_marked_secret_and_nowhere_else(whole: Recorder) -> None:
    (request,) = [request for request in whole.requests if request.name == "con-harbour"]
    assert rpc.is_rpc_secret(rpc.deserialize_properties(request.object, keep_unknowns=True)["sharedKey"])
    others = [str(request.object) for request in whole.requests if request.name != "con-harbour"]
    assert SECRET not in "".join(others)


def test_an_express_route_has_a_circuit_and_no_peer() -> None:
    made = zone(registered(with_site(plain_zone(), gateway=EXPRESS_ROUTE)))
    assert not [key for key in made if "LocalNetworkGateway" in key]
    gateway = made["network:VirtualNetworkGateway::vgw-harbour"]
    assert (gateway["gatewayType"], gateway["sku"]["name"], gateway.get("vpnType")) == ("ExpressRoute", "ErGw1AZ", None)
    connection = made["network:VirtualNetworkGatewayConnection::con-harbour"]
    assert {
        key: value for key, value in connection.items() if key not in {"tags", "location", "resourceGroupName"}
    } == {
        "virtualNetworkGatewayConnectionName": "con-harbour",
        "connectionType": "ExpressRoute",
        "virtualNetworkGateway1": {"id": "/id/vgw-harbour"},
        "peer": {"id": EXPRESS_ROUTE.circuit},
        "authorizationKey": SECRET,
    }


@pytest.mark.parametrize(("sku", "zones"), [("VpnGw1AZ", ["1", "2", "3"]), ("VpnGw2", None)])
def test_a_gateway_of_zones_has_an_address_of_zones(sku: str, zones: list[str] | None) -> None:
    made = zone(registered(with_site(plain_zone(), gateway=dataclasses.replace(OPTIONS["gateway"], sku=sku))))
    assert made["network:PublicIPAddress::pip-harbour-gateway"].get("zones") == zones


def test_without_alerts_a_budget_tells_the_owners() -> None:
    notices = zone(registered(with_site(plain_zone(), budget=OPTIONS["budget"])))[
        "consumption:Budget::budget-lifeboat-harbour"
    ]["notifications"]
    assert {(notice.get("contactGroups"), *notice["contactRoles"]) for notice in notices.values()} == {(None, "Owner")}


def test_reservations_are_counted_by_size_and_zone(whole: Recorder) -> None:
    made = zone(whole)
    counted = {key.partition("::")[2]: int(made[key]["sku"]["capacity"]) for key in made if "Reservation::" in key}
    assert counted == {"crg-harbour-cr-standard-d2s-v5": 2, "crg-harbour-zone1-cr-standard-d2s-v5-zone1": 1}


def test_a_recovered_server_draws_on_what_is_reserved_in_its_zone() -> None:
    declaration = full()
    group = dataclasses.replace(declaration.plans["shop"].groups[0], servers=("shop1", "shop2"), checks=())
    plan = dataclasses.replace(declaration.plans["shop"], groups=(group,))
    blueprint = compiler.failover(
        dataclasses.replace(declaration, plans={"shop": plan}), "shop", "r1", "latest", LOCAL_SUBSCRIPTION
    )
    with mocked() as run:
        made = run(lambda: failover.program(blueprint, LOCAL_SUBSCRIPTION))
    reserved = "/providers/Microsoft.Compute/capacityReservationGroups/crg-harbour"
    place = f"/subscriptions/{LOCAL_SUBSCRIPTION}/resourceGroups/rg-lifeboat-harbour-site{reserved}"
    machines = made.of("azure-native:compute:VirtualMachine")
    assert {
        name: (machine.get("zones"), machine["capacityReservation"]["capacityReservationGroup"]["id"])
        for name, machine in machines.items()
    } == {"shop1": (None, place), "shop2": (["1"], f"{place}-zone1")}
    # A machine of a zone takes disks of that zone only.
    disks = {name: disk.get("zones") for name, disk in made.of("azure-native:compute:Disk").items()}
    assert disks == {"disk-shop1-os-r1": None, "disk-shop2-os-r1": ["1"]}
