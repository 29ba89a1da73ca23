"""Public addresses and NAT gateways: records. The local target's machines have no way out, and no address of these."""

from __future__ import annotations

import hashlib
from typing import Any

from dr.local.standin.kinds import Cloud, Judged, Kind, Values, Voice, azure_error, existing, same_location, user_of
from dr.local.standin.records import Record

_NETWORK = "/resourceGroups/{resourceGroupName}/providers/Microsoft.Network"


class PublicAddress(Kind):
    resource_type = "azure-native:network:PublicIPAddress"
    arm_type = "Microsoft.Network/publicIPAddresses"
    path = f"{_NETWORK}/publicIPAddresses/{{publicIpAddressName}}"
    name_input = "publicIpAddressName"

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        standard = (inputs.get("sku") or {}).get("name") == "Standard"
        if standard and inputs.get("publicIPAllocationMethod") != "Static":
            raise azure_error("InvalidParameter", f"{resource_id}: a Standard public address has to be Static")

    def create(self, cloud: Cloud, record: Record, voice: Voice) -> dict[str, Any]:
        # TEST-NET-1 (RFC 5737): an address that nobody has.
        digest = hashlib.sha256(record.id.lower().encode()).digest()
        return {**self.outputs(record), "ipAddress": f"192.0.2.{digest[0] % 254 + 1}"}

    def refuse_update(self, cloud: Cloud, record: Record, inputs: Values) -> None:
        self.refuse_create(cloud, record.id, inputs)
        for name in ("zones", "sku"):
            if inputs.get(name) != record.inputs.get(name):
                raise azure_error("PropertyChangeNotAllowed", f"changing '{name}' of {record.id} is not allowed")

    def refuse_delete(self, cloud: Cloud, record: Record) -> None:
        user = user_of(cloud, record.id)
        if user is not None:
            raise azure_error(
                "PublicIPAddressCannotBeDeleted",
                f"public IP address {record.id} can not be deleted since it is still allocated to resource {user.id}",
            )


class NatGateway(Judged):
    resource_type = "azure-native:network:NatGateway"
    arm_type = "Microsoft.Network/natGateways"
    path = f"{_NETWORK}/natGateways/{{natGatewayName}}"
    name_input = "natGatewayName"

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        for reference in inputs.get("publicIpAddresses") or []:
            free_standard_address(cloud, str(reference["id"]), str(inputs.get("location", "")), resource_id)
        minutes = int(inputs.get("idleTimeoutInMinutes") or 4)
        if not 4 <= minutes <= 120:
            raise azure_error("InvalidParameter", f"idleTimeoutInMinutes {minutes} of {resource_id} is not in 4..120")

    def refuse_delete(self, cloud: Cloud, record: Record) -> None:
        user = user_of(cloud, record.id)
        if user is not None:
            raise azure_error(
                "CannotDeleteNatGatewayAssociatedToSubnet", f"NAT gateway {record.id} is still configured on {user.id}"
            )


def free_standard_address(cloud: Cloud, address_id: str, location: str, needed_by: str) -> Record:
    """Return the public address that a service takes. Raise unless it is Standard, in the region and nobody else's."""
    address = existing(cloud, address_id, PublicAddress.resource_type, needed_by)
    same_location(address, location, needed_by)
    if (address.inputs.get("sku") or {}).get("name") != "Standard":
        raise azure_error("PublicIPAddressSkuNotSupported", f"{needed_by} needs a Standard public address")
    user = user_of(cloud, address_id)
    if user is not None and user.id.lower() != needed_by.lower():
        raise azure_error("PublicIPAddressInUse", f"{address_id} is already allocated to {user.id}")
    return address
