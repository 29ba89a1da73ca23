"""Private DNS zones and their links to networks: records."""

from __future__ import annotations

from dr.local.standin.kinds import Cloud, Kind, Values, azure_error, existing
from dr.local.standin.network import VirtualNetwork
from dr.local.standin.records import Record

_ZONE = "/resourceGroups/{resourceGroupName}/providers/Microsoft.Network/privateDnsZones/{privateZoneName}"


class PrivateZone(Kind):
    resource_type = "azure-native:privatedns:PrivateZone"
    arm_type = "Microsoft.Network/privateDnsZones"
    path = _ZONE
    name_input = "privateZoneName"
    name_pattern = r"(?=.{3,253}$)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})+"

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        refuse_region(resource_id, inputs)

    def refuse_delete(self, cloud: Cloud, record: Record) -> None:
        for nested in cloud.records.below(record.id):
            raise azure_error(
                "CannotDeleteResource",
                f"cannot delete {record.id} while nested resources exist: {nested.id}",
                remedy="delete its links first",
            )


class ZoneLink(Kind):
    resource_type = "azure-native:privatedns:VirtualNetworkLink"
    arm_type = "Microsoft.Network/privateDnsZones/virtualNetworkLinks"
    path = f"{_ZONE}/virtualNetworkLinks/{{virtualNetworkLinkName}}"
    parent = _ZONE
    name_input = "virtualNetworkLinkName"

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        refuse_region(resource_id, inputs)
        network = existing(cloud, _network(inputs), VirtualNetwork.resource_type, resource_id)
        for other in cloud.records.below(str(self.parent_id(inputs))):
            if other.id.lower() != resource_id.lower() and _network(other.inputs).lower() == network.id.lower():
                raise azure_error("Conflict", f"{network.id} is already linked to this zone by {other.id}")

    def refuse_update(self, cloud: Cloud, record: Record, inputs: Values) -> None:
        if _network(inputs).lower() != _network(record.inputs).lower():
            raise azure_error("PropertyChangeNotAllowed", f"the network of link {record.id} can't be changed")


def refuse_region(resource_id: str, inputs: Values) -> None:
    """Raise unless a resource that lies in no region says so."""
    if str(inputs.get("location", "")).lower() != "global":
        raise azure_error(
            "LocationNotAvailableForResourceType", f"{resource_id} lies in no region: its location has to be 'global'"
        )


def _network(inputs: Values) -> str:
    return str((inputs.get("virtualNetwork") or {}).get("id") or "")
