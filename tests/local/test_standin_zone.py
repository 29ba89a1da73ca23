"""What Azure refuses about the parts of a landing zone, the stand-in refuses."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dr.compile import security
from dr.errors import LifeboatError, Refused
from dr.local.azurite import Azurite
from dr.local.standin.filtering import open_ports
from dr.local.standin.kinds import Cloud
from dr.local.standin.managed_subnets import refuse_bastion_rules
from dr.local.standin.records import Records
from dr.local.standin.reservations import refuse_machine
from tests.local.driving import GROUP, LOCATION, Driver, Made, nsg, rule, subnet, vnet

MONTH = datetime.now(UTC).strftime("%Y-%m-01T00:00:00Z")
SKU = {"sku": {"name": "Standard"}}


@pytest.fixture
def azure(tmp_path: Path) -> Driver:
    driver = Driver(tmp_path)
    driver.group()
    driver.create("network:VirtualNetwork", **vnet())
    return driver


def code(call: Callable[[], Any]) -> str:
    with pytest.raises(LifeboatError) as caught:
        call()
    return caught.value.code


def here(**inputs: Any) -> dict[str, Any]:
    return {"location": LOCATION, **GROUP, **inputs}


def address(azure: Driver, name: str = "pip", **more: Any) -> Made:
    static = {"publicIPAllocationMethod": "Static", **SKU, **more}
    return azure.create("network:PublicIPAddress", **here(publicIpAddressName=name, **static))


def nat(azure: Driver, public: Made, name: str = "ng") -> Made:
    inputs = here(natGatewayName=name, publicIpAddresses=[{"id": public.id}], **SKU)
    return azure.create("network:NatGateway", **inputs)


def in_subnet(subnet: Made, public: Made) -> dict[str, Any]:
    one = {"name": "primary", "subnet": {"id": subnet.id}, "publicIPAddress": {"id": public.id}}
    return {"ipConfigurations": [one]}


def bastion_rules() -> list[dict[str, Any]]:
    return [
        {
            "name": f"{one.name}-{one.direction}",
            "priority": one.priority,
            "direction": one.direction,
            "access": one.access,
            "protocol": one.protocol,
            "sourceAddressPrefix": one.source,
            "destinationAddressPrefix": one.destination,
            "destinationPortRanges": list(one.ports),
        }
        for one in security.bastion()
    ]


def gateway_subnet(azure: Driver) -> Made:
    return azure.create("network:Subnet", **subnet(prefix="10.0.255.0/27", name="GatewaySubnet"))


def gateway(azure: Driver, where: Made, public: Made, name: str = "vgw", kind: str = "Vpn") -> Made:
    inputs = here(virtualNetworkGatewayName=name, gatewayType=kind, **in_subnet(where, public))
    return azure.create("network:VirtualNetworkGateway", **inputs)


def peer(azure: Driver) -> Made:
    inputs = here(localNetworkGatewayName="lgw", gatewayIpAddress="203.0.113.7")
    return azure.create("network:LocalNetworkGateway", **inputs)


def connection(vgw: Made, lgw: Made | None, **more: Any) -> dict[str, Any]:
    site = {} if lgw is None else {"localNetworkGateway2": {"id": lgw.id}}
    names = {"virtualNetworkGatewayConnectionName": "con", "virtualNetworkGateway1": {"id": vgw.id}}
    return here(**{**names, **site, "connectionType": "IPsec", "sharedKey": "s3cret", **more})


# Outbound --------------------------------------------------------------------------------------------------


def test_a_nat_gateway_and_its_address_are_held_while_they_are_used(azure: Driver) -> None:
    public = address(azure)
    made = nat(azure, public)
    attached = azure.create("network:Subnet", **subnet(), natGateway={"id": made.id})
    assert code(lambda: azure.delete(made)) == "CannotDeleteNatGatewayAssociatedToSubnet"
    assert code(lambda: azure.delete(public)) == "PublicIPAddressCannotBeDeleted"
    assert code(lambda: nat(azure, public, "second")) == "PublicIPAddressInUse"
    azure.update(attached, **subnet())
    for one in (made, public, attached):
        azure.delete(one)


def test_public_addresses_are_standard_and_static(azure: Driver) -> None:
    assert code(lambda: address(azure, publicIPAllocationMethod="Dynamic")) == "InvalidParameter"
    basic = address(azure, sku={"name": "Basic"})
    assert code(lambda: nat(azure, basic)) == "PublicIPAddressSkuNotSupported"
    zoned = address(azure, "zoned", zones=["1"])
    assert code(lambda: azure.update(zoned, **{**zoned.inputs, "zones": ["2"]})) == "PropertyChangeNotAllowed"


def test_two_subnets_of_a_network_are_not_made_at_once(azure: Driver) -> None:
    records = Records(azure.folders.resources)
    first = azure.create("network:Subnet", **subnet())
    record = records.find(first.id)
    assert record is not None
    records.reserve(first.id, record.resource_type, record.name, record.inputs)  # as while it is being made
    second = subnet(prefix="10.0.2.0/24", name="second")
    assert code(lambda: azure.create("network:Subnet", **second)) == "AnotherOperationInProgress"
    records.save(record)
    azure.create("network:Subnet", **second)


def test_a_network_takes_no_peering(azure: Driver) -> None:
    inline = vnet(virtualNetworkName="drill", virtualNetworkPeerings=[{"name": "to-production"}])
    assert code(lambda: azure.create("network:VirtualNetwork", **inline)) == "NotRealised"
    with pytest.raises(Refused, match='does not realise "azure-native:network:VirtualNetworkPeering"'):
        azure.check("network:VirtualNetworkPeering", **GROUP, virtualNetworkName="vnet", virtualNetworkPeeringName="p")


# Bastion ---------------------------------------------------------------------------------------------------


def test_bastion_wants_its_subnet_and_its_rules(azure: Driver) -> None:
    group = azure.create("network:NetworkSecurityGroup", **{**nsg(22)})
    small = subnet(prefix="10.0.254.0/27", name="AzureBastionSubnet")
    assert code(lambda: azure.create("network:Subnet", **small)) == "SubnetSizeInvalid"
    kept = subnet(group, prefix="10.0.254.0/26", name="AzureBastionSubnet")
    assert (
        code(lambda: azure.create("network:Subnet", **kept)) == "NetworkSecurityGroupNotCompliantForAzureBastionSubnet"
    )
    azure.update(group, **{**nsg(), "securityRules": bastion_rules()})
    where, public = azure.create("network:Subnet", **kept), address(azure)
    other = azure.create("network:Subnet", **subnet())
    host = here(bastionHostName="bas", **in_subnet(other, public))
    assert code(lambda: azure.create("network:BastionHost", **host)) == "SubnetNameInvalid"
    made = azure.create("network:BastionHost", **here(bastionHostName="bas", **in_subnet(where, public)))
    assert code(lambda: azure.delete(where)) == "InUseSubnetCannotBeDeleted"
    assert code(lambda: azure.delete(group)) == "InUseNetworkSecurityGroupCannotBeDeleted"
    assert code(lambda: azure.update(group, **nsg(443))) == "NetworkSecurityGroupNotCompliantForAzureBastionSubnet"
    for one in (made, where, group, public):
        azure.delete(one)


def test_each_rule_of_bastions_is_needed() -> None:
    rules = bastion_rules()
    refuse_bastion_rules(rules)
    for index, one in enumerate(rules):
        if one["access"] == "Allow":
            with pytest.raises(LifeboatError, match="does not have necessary rules"):
                refuse_bastion_rules(rules[:index] + rules[index + 1 :])


# The way home ----------------------------------------------------------------------------------------------


def test_a_gateway_subnet_takes_neither_security_group_nor_nat(azure: Driver) -> None:
    group = azure.create("network:NetworkSecurityGroup", **nsg(22))
    kept = subnet(prefix="10.0.255.0/27", name="GatewaySubnet")
    attached = {**kept, "networkSecurityGroup": {"id": group.id}}
    assert code(lambda: azure.create("network:Subnet", **attached)) == "NotSupported"
    outbound = {**kept, "natGateway": {"id": nat(azure, address(azure)).id}}
    assert code(lambda: azure.create("network:Subnet", **outbound)) == "NotSupported"
    made = azure.create("network:Subnet", **kept)
    assert code(lambda: azure.update(made, **attached)) == "NotSupported"


def test_a_gateway_is_held_by_its_connection(azure: Driver) -> None:
    where, public = gateway_subnet(azure), address(azure)
    vgw, lgw = gateway(azure, where, public), peer(azure)
    assert code(lambda: gateway(azure, where, address(azure, "second"), "other")) == "SubnetInUse"
    made = azure.create("network:VirtualNetworkGatewayConnection", **connection(vgw, lgw))
    assert code(lambda: azure.delete(vgw)) == "VirtualNetworkGatewayCannotBeDeleted"
    assert code(lambda: azure.delete(lgw)) == "LocalNetworkGatewayCannotBeDeleted"
    assert code(lambda: azure.delete(where)) == "InUseSubnetCannotBeDeleted"
    another_type = {**vgw.inputs, "gatewayType": "ExpressRoute"}
    assert code(lambda: azure.update(vgw, **another_type)) == "PropertyChangeNotAllowed"
    for one in (made, vgw, lgw, where, public):
        azure.delete(one)


def test_a_connection_has_to_be_whole(azure: Driver) -> None:
    vgw, lgw = gateway(azure, gateway_subnet(azure), address(azure)), peer(azure)
    token = "network:VirtualNetworkGatewayConnection"
    assert code(lambda: azure.create(token, **connection(vgw, None))) == "InvalidResourceReference"
    assert code(lambda: azure.create(token, **connection(vgw, lgw, sharedKey=None))) == "InvalidParameter"
    express = connection(vgw, lgw, connectionType="ExpressRoute")
    assert code(lambda: azure.create(token, **express)) == "InvalidParameter"


def test_the_shared_key_is_in_no_file_of_the_local_target(azure: Driver) -> None:
    vgw, lgw = gateway(azure, gateway_subnet(azure), address(azure)), peer(azure)
    made = azure.create("network:VirtualNetworkGatewayConnection", **connection(vgw, lgw, sharedKey="hush-hush"))
    changed = azure.update(made, **connection(vgw, lgw, sharedKey="hush-again"))
    preview = azure.preview("network:VirtualNetworkGatewayConnection", **connection(vgw, lgw, sharedKey="hush-hush"))
    for outputs in (made.outputs, changed.outputs, preview.outputs):
        assert "hush" not in str(outputs)
    assert not [path for path in azure.folders.root.rglob("*") if path.is_file() and b"hush" in path.read_bytes()]


# Names, capacity, watching ---------------------------------------------------------------------------------


def test_a_private_zone_is_held_by_its_links(azure: Driver) -> None:
    network = azure.create("network:VirtualNetwork", **vnet(virtualNetworkName="second"))
    named = {**GROUP, "privateZoneName": "shop.example.internal"}
    assert code(lambda: azure.create("privatedns:PrivateZone", **named, location=LOCATION)).startswith("LocationNot")
    zone = azure.create("privatedns:PrivateZone", **named, location="global")
    link = {**named, "location": "global", "virtualNetwork": {"id": network.id}}
    made = azure.create("privatedns:VirtualNetworkLink", **link, virtualNetworkLinkName="a")
    again = {**link, "virtualNetworkLinkName": "b"}
    assert code(lambda: azure.create("privatedns:VirtualNetworkLink", **again)) == "Conflict"
    assert code(lambda: azure.delete(zone)) == "CannotDeleteResource"
    azure.delete(made)
    azure.delete(zone)


def test_reservations_lie_in_their_groups_zones_and_hold_it(azure: Driver) -> None:
    named = {"capacityReservationGroupName": "crg", **GROUP, "location": LOCATION}
    group = azure.create("compute:CapacityReservationGroup", **named, zones=["1"])
    one = {**named, "capacityReservationName": "a", "sku": {"name": "Standard_D2s_v5", "capacity": 2}}
    assert code(lambda: azure.create("compute:CapacityReservation", **one, zones=["2"])) == "InvalidParameter"
    made = azure.create("compute:CapacityReservation", **one, zones=["1"])
    twice = {**one, "capacityReservationName": "b", "zones": ["1"]}
    assert code(lambda: azure.create("compute:CapacityReservation", **twice)) == "Conflict"
    grown = {**made.inputs, "sku": {"name": "Standard_D2s_v5", "capacity": 3}}
    assert azure.update(made, **grown).outputs["sku"]["capacity"] == 3
    other = {**made.inputs, "sku": {"name": "Standard_D4s_v5", "capacity": 2}}
    assert code(lambda: azure.update(made, **other)) == "PropertyChangeNotAllowed"
    assert code(lambda: azure.update(group, **named, zones=["1", "2"])) == "PropertyChangeNotAllowed"
    assert code(lambda: azure.delete(group)) == "CannotDeleteResource"
    azure.delete(made)
    azure.delete(group)


def test_a_machine_draws_on_what_is_reserved_where_it_is(azure: Driver) -> None:
    named = {"capacityReservationGroupName": "crg", **GROUP, "location": LOCATION}
    group = azure.create("compute:CapacityReservationGroup", **named, zones=["1"])
    sku = {"sku": {"name": "Standard_D2s_v5", "capacity": 1}}
    azure.create("compute:CapacityReservation", **named, capacityReservationName="a", zones=["1"], **sku)
    folders = azure.folders
    cloud = Cloud(folders, Records(folders.resources), Azurite(folders), threading.Event())

    def machine(size: str, zones: list[str], group_id: str = group.id) -> dict[str, Any]:
        reserved = {"capacityReservationGroup": {"id": group_id}}
        return {"hardwareProfile": {"vmSize": size}, "zones": zones, "capacityReservation": reserved}

    refuse_machine(cloud, "vm", machine("Standard_D2s_v5", ["1"]))
    refuse_machine(cloud, "vm", {"hardwareProfile": {"vmSize": "Standard_D4s_v5"}})  # draws on none
    for size, zones in (("Standard_D4s_v5", ["1"]), ("Standard_D2s_v5", ["2"]), ("Standard_D2s_v5", [])):
        wanted = machine(size, zones)
        assert code(lambda wanted=wanted: refuse_machine(cloud, "vm", wanted)) == "CapacityReservationNotFound"  # type: ignore[misc]
    absent = machine("Standard_D2s_v5", ["1"], f"{group.id}x")
    assert code(lambda: refuse_machine(cloud, "vm", absent)) == "InvalidResourceReference"


def test_diagnostics_need_a_resource_a_workspace_and_something_to_send(azure: Driver) -> None:
    public = address(azure)
    workspace = azure.create("operationalinsights:Workspace", **here(workspaceName="logs-of-harbour"))
    setting = {"name": "lifeboat", "resourceUri": public.id, "workspaceId": workspace.id}
    token, logs = "monitor:DiagnosticSetting", [{"categoryGroup": "allLogs", "enabled": True}]
    assert code(lambda: azure.create(token, **setting)) == "InvalidParameter"
    assert code(lambda: azure.create(token, **{**setting, "workspaceId": None}, logs=logs)) == "InvalidParameter"
    assert code(lambda: azure.create(token, **{**setting, "resourceUri": "/x"}, logs=logs)) == "ParentResourceNotFound"
    made = azure.create(token, **setting, logs=logs)
    assert made.id == f"{public.id}/providers/Microsoft.Insights/diagnosticSettings/lifeboat"
    azure.delete(made)


def action_group(azure: Driver, short: str = "lifeboat") -> Made:
    inputs = {**GROUP, "location": "global", "actionGroupName": "ag", "groupShortName": short}
    return azure.create("monitor:ActionGroup", **inputs)


def test_alerts_name_a_category_and_groups_have_short_names(azure: Driver) -> None:
    assert code(lambda: action_group(azure, "more than twelve")) == "InvalidParameter"
    group = action_group(azure)
    alert = {**GROUP, "location": "global", "activityLogAlertName": "a", "scopes": ["/subscriptions/x"]}
    actions = {"actionGroups": [{"actionGroupId": group.id}]}
    category = {"allOf": [{"field": "category", "equals": "ServiceHealth"}]}
    vague = {"allOf": [{"field": "operationName", "equals": "x"}]}
    token = "monitor:ActivityLogAlert"
    assert code(lambda: azure.create(token, **alert, actions=actions, condition=vague)) == "InvalidParameter"
    nobody = {"actionGroups": [{"actionGroupId": f"{group.id}x"}]}
    assert code(lambda: azure.create(token, **alert, actions=nobody, condition=category)) == "InvalidResourceReference"
    azure.create(token, **alert, actions=actions, condition=category)


def test_a_budget_starts_in_this_month_or_later_and_never_again(azure: Driver) -> None:
    notice = {"enabled": True, "operator": "GreaterThan", "threshold": 80, "contactEmails": ["a@example.com"]}
    scope = "/subscriptions/00000000-10ca-4000-8000-000000000000/resourceGroups/rg"
    budget = {"scope": scope, "budgetName": "b", "category": "Cost", "timeGrain": "Monthly", "amount": 9}

    def make(start: str, **notices: Any) -> Made:
        notices = notices or {"one": notice}
        return azure.create("consumption:Budget", **budget, timePeriod={"startDate": start}, notifications=notices)

    assert code(lambda: make("2020-01-01T00:00:00Z")) == "400"
    assert code(lambda: make(MONTH.replace("-01T", "-02T"))) == "400"
    assert code(lambda: make(MONTH, silent={**notice, "contactEmails": []})) == "400"
    made = make(MONTH)
    later = {**made.inputs, "timePeriod": {"startDate": "2099-01-01T00:00:00Z"}}
    assert code(lambda: azure.update(made, **later)) == "400"
    assert azure.update(made, **{**made.inputs, "amount": 10}).outputs["amount"] == 10


def test_what_is_let_in_from_a_prefix_is_not_open_to_a_stranger() -> None:
    inside = {**rule(22), "sourceAddressPrefix": "10.30.0.0/16"}
    assert open_ports([[inside, rule(443, priority=101)]]) == ((443,), ())
    wide = {**rule("*"), "sourceAddressPrefix": "10.30.0.0/16"}
    assert open_ports([[wide]]) == ((), ())
