"""Private endpoints and their names: records, with what Azure refuses about them."""

from __future__ import annotations

from typing import Any

from dr.local.standin.kinds import Cloud, Kind, Values, Voice, azure_error, existing, same_location
from dr.local.standin.network import Subnet, VirtualNetwork
from dr.local.standin.private_zones import PrivateZone
from dr.local.standin.records import Record

_ENDPOINT = "/resourceGroups/{resourceGroupName}/providers/Microsoft.Network/privateEndpoints/{privateEndpointName}"


class PrivateEndpoint(Kind):
    resource_type = "azure-native:network:PrivateEndpoint"
    arm_type = "Microsoft.Network/privateEndpoints"
    path = _ENDPOINT
    name_input = "privateEndpointName"
    also_replacing = ("location", "subnet")

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        subnet = existing(cloud, str((inputs.get("subnet") or {}).get("id")), Subnet.resource_type, resource_id)
        network = existing(cloud, subnet.id.rsplit("/subnets/", 1)[0], VirtualNetwork.resource_type, resource_id)
        same_location(network, str(inputs.get("location", network.location)), resource_id)
        for connection in inputs.get("privateLinkServiceConnections") or []:
            target = str(connection.get("privateLinkServiceId"))
            if cloud.records.find(target) is None:
                raise azure_error(
                    "PrivateLinkServiceIdNotFound",
                    f"{resource_id} is to lead to {target}, which does not exist",
                    remedy="`pulumi up` of the vault stack makes it",
                )

    def create(self, cloud: Cloud, record: Record, voice: Voice) -> dict[str, Any]:
        connections = [
            {**each, "privateLinkServiceConnectionState": {"status": "Approved", "description": "Auto-Approved"}}
            for each in record.inputs.get("privateLinkServiceConnections") or []
        ]
        return {**self.outputs(record), "privateLinkServiceConnections": connections}


class PrivateDnsZoneGroup(Kind):
    resource_type = "azure-native:network:PrivateDnsZoneGroup"
    arm_type = "Microsoft.Network/privateEndpoints/privateDnsZoneGroups"
    path = f"{_ENDPOINT}/privateDnsZoneGroups/{{privateDnsZoneGroupName}}"
    parent = _ENDPOINT
    name_input = "privateDnsZoneGroupName"
    also_replacing = ()

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        for configured in inputs.get("privateDnsZoneConfigs") or []:
            existing(cloud, str(configured.get("privateDnsZoneId")), PrivateZone.resource_type, resource_id)

    def visible(self, inputs: Values) -> dict[str, Any]:
        return {key: value for key, value in inputs.items() if key not in self.path_inputs()}
