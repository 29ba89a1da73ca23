"""Bastion, and the gateway of the way home with its peer and its connection: records with what Azure refuses."""

from __future__ import annotations

from collections.abc import Iterator

from dr.local.standin.kinds import Cloud, Judged, Kind, Values, azure_error, existing, user_of
from dr.local.standin.managed_subnets import BASTION, GATEWAY
from dr.local.standin.network import Subnet
from dr.local.standin.outbound import free_standard_address
from dr.local.standin.records import Record

_NETWORK = "/resourceGroups/{resourceGroupName}/providers/Microsoft.Network"


class _InSubnet(Judged):
    """A service that Azure puts into a subnet kept for it, with a public address of its own."""

    subnet_name: str

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        configurations = inputs.get("ipConfigurations") or []
        if not configurations:
            raise azure_error("InvalidParameter", f"{resource_id} has no ipConfigurations")
        for configuration in configurations:
            subnet = existing(cloud, _id(configuration, "subnet"), Subnet.resource_type, resource_id)
            if subnet.name != self.subnet_name:
                raise azure_error(
                    "SubnetNameInvalid", f"{resource_id} needs subnet {self.subnet_name}, not {subnet.id}"
                )
            user = user_of(cloud, subnet.id, self.resource_type)
            if user is not None and user.id.lower() != resource_id.lower() and self._excludes(user, inputs):
                raise azure_error("SubnetInUse", f"{subnet.id} already has {user.id}")
            address = _id(configuration, "publicIPAddress")
            free_standard_address(cloud, address, str(inputs.get("location", "")), resource_id)

    def _excludes(self, other: Record, inputs: Values) -> bool:
        """Say whether another service of this type in the subnet keeps this one out."""
        return True


class Bastion(_InSubnet):
    resource_type = "azure-native:network:BastionHost"
    arm_type = "Microsoft.Network/bastionHosts"
    path = f"{_NETWORK}/bastionHosts/{{bastionHostName}}"
    name_input = "bastionHostName"
    subnet_name = BASTION


class Gateway(_InSubnet):
    resource_type = "azure-native:network:VirtualNetworkGateway"
    arm_type = "Microsoft.Network/virtualNetworkGateways"
    path = f"{_NETWORK}/virtualNetworkGateways/{{virtualNetworkGatewayName}}"
    name_input = "virtualNetworkGatewayName"
    subnet_name = GATEWAY

    def refuse_update(self, cloud: Cloud, record: Record, inputs: Values) -> None:
        if inputs.get("gatewayType") != record.inputs.get("gatewayType"):
            raise azure_error("PropertyChangeNotAllowed", f"the type of gateway {record.id} can't be changed")
        super().refuse_update(cloud, record, inputs)

    def refuse_delete(self, cloud: Cloud, record: Record) -> None:
        for connection in _connections(cloud, record):
            raise azure_error(
                "VirtualNetworkGatewayCannotBeDeleted", f"{record.id} is still used by connection {connection.id}"
            )

    def _excludes(self, other: Record, inputs: Values) -> bool:
        # One gateway of each type may stand in a network.
        return other.inputs.get("gatewayType") == inputs.get("gatewayType")


class Peer(Judged):
    resource_type = "azure-native:network:LocalNetworkGateway"
    arm_type = "Microsoft.Network/localNetworkGateways"
    path = f"{_NETWORK}/localNetworkGateways/{{localNetworkGatewayName}}"
    name_input = "localNetworkGatewayName"

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        if not inputs.get("gatewayIpAddress") and not inputs.get("fqdn"):
            raise azure_error("InvalidParameter", f"{resource_id} has neither gatewayIpAddress nor fqdn")

    def refuse_delete(self, cloud: Cloud, record: Record) -> None:
        for connection in _connections(cloud, record):
            raise azure_error(
                "LocalNetworkGatewayCannotBeDeleted", f"{record.id} is still used by connection {connection.id}"
            )


class Connection(Kind):
    resource_type = "azure-native:network:VirtualNetworkGatewayConnection"
    arm_type = "Microsoft.Network/connections"
    path = f"{_NETWORK}/connections/{{virtualNetworkGatewayConnectionName}}"
    name_input = "virtualNetworkGatewayConnectionName"
    secrets = frozenset({"sharedKey", "authorizationKey"})

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        gateway = existing(cloud, _id(inputs, "virtualNetworkGateway1"), Gateway.resource_type, resource_id)
        vpn = inputs["connectionType"] == "IPsec"
        if (gateway.inputs.get("gatewayType") == "Vpn") != vpn:
            raise azure_error("InvalidParameter", f"{gateway.id} is no gateway for {inputs['connectionType']}")
        if vpn:
            existing(cloud, _id(inputs, "localNetworkGateway2"), Peer.resource_type, resource_id)
            if not inputs.get("sharedKey"):
                raise azure_error("InvalidParameter", f"{resource_id} has no sharedKey")
        elif not _id(inputs, "peer"):
            # A circuit may lie in another subscription, so it can't be looked up here.
            raise azure_error("InvalidParameter", f"{resource_id} names no circuit as its peer")

    def refuse_update(self, cloud: Cloud, record: Record, inputs: Values) -> None:
        if inputs["connectionType"] != record.inputs["connectionType"]:
            raise azure_error("PropertyChangeNotAllowed", f"the type of connection {record.id} can't be changed")
        self.refuse_create(cloud, record.id, inputs)


def _connections(cloud: Cloud, record: Record) -> Iterator[Record]:
    user = user_of(cloud, record.id, Connection.resource_type)
    if user is not None:
        yield user


def _id(values: Values, key: str) -> str:
    return str((values.get(key) or {}).get("id") or "")
