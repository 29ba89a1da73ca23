"""Capacity reservations: records. This machine reserves nothing, but refuses what Azure refuses about them.

Source: Azure's documentation, "On-demand capacity reservation".
"""

from __future__ import annotations

from collections.abc import Iterator

from dr.local.sizes import capacity
from dr.local.standin.kinds import Cloud, Kind, Values, azure_error, existing, user_of
from dr.local.standin.records import Record

_GROUP = (
    "/resourceGroups/{resourceGroupName}/providers/Microsoft.Compute"
    "/capacityReservationGroups/{capacityReservationGroupName}"
)


class ReservationGroup(Kind):
    resource_type = "azure-native:compute:CapacityReservationGroup"
    arm_type = "Microsoft.Compute/capacityReservationGroups"
    path = _GROUP
    name_input = "capacityReservationGroupName"

    def refuse_update(self, cloud: Cloud, record: Record, inputs: Values) -> None:
        if inputs.get("zones") != record.inputs.get("zones"):
            raise azure_error("PropertyChangeNotAllowed", f"the zones of {record.id} are set when it is made")

    def refuse_delete(self, cloud: Cloud, record: Record) -> None:
        for nested in (*cloud.records.below(record.id), user_of(cloud, record.id)):
            if nested is not None:
                raise azure_error("CannotDeleteResource", f"{record.id} still has {nested.id}")


class Reservation(Kind):
    resource_type = "azure-native:compute:CapacityReservation"
    arm_type = "Microsoft.Compute/capacityReservationGroups/capacityReservations"
    path = f"{_GROUP}/capacityReservations/{{capacityReservationName}}"
    parent = _GROUP
    name_input = "capacityReservationName"

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        capacity(_size(inputs))
        group = existing(cloud, str(self.parent_id(inputs)), ReservationGroup.resource_type, resource_id)
        if not set(inputs.get("zones") or []) <= set(group.inputs.get("zones") or []):
            raise azure_error("InvalidParameter", f"the zones of {resource_id} are not among those of {group.id}")
        for other in _reservations(cloud, group):
            if other.id.lower() != resource_id.lower() and _place(other.inputs) == _place(inputs):
                raise azure_error("Conflict", f"{group.id} already reserves {_size(inputs)} by {other.id}")

    def refuse_update(self, cloud: Cloud, record: Record, inputs: Values) -> None:
        if _place(inputs) != _place(record.inputs):
            raise azure_error("PropertyChangeNotAllowed", f"only the quantity of {record.id} can be changed")

    def refuse_delete(self, cloud: Cloud, record: Record) -> None:
        user = user_of(cloud, record.id.rsplit("/capacityReservations/", 1)[0])
        if user is not None and _size_of_machine(user.inputs) == _size(record.inputs):
            raise azure_error("OperationNotAllowed", f"{record.id} is in use by {user.id}")


def refuse_machine(cloud: Cloud, resource_id: str, inputs: Values) -> None:
    """Raise when a VM draws on a group that reserves nothing of its size in its zone."""
    reference = (inputs.get("capacityReservation") or {}).get("capacityReservationGroup") or {}
    if not reference.get("id"):
        return
    group = existing(cloud, str(reference["id"]), ReservationGroup.resource_type, resource_id)
    wanted = (_size_of_machine(inputs), tuple(inputs.get("zones") or []))
    if wanted not in {_place(reservation.inputs) for reservation in _reservations(cloud, group)}:
        raise azure_error("CapacityReservationNotFound", f"{group.id} reserves no {wanted[0]} where {resource_id} is")


def _reservations(cloud: Cloud, group: Record) -> Iterator[Record]:
    return (record for record in cloud.records.below(group.id) if record.resource_type == Reservation.resource_type)


def _size(inputs: Values) -> str:
    return str(inputs["sku"].get("name", ""))


def _place(inputs: Values) -> tuple[str, tuple[str, ...]]:
    return _size(inputs), tuple(inputs.get("zones") or [])


def _size_of_machine(inputs: Values) -> str:
    return str((inputs.get("hardwareProfile") or {}).get("vmSize", ""))
