"""What a resource type is to the stand-in: its ARM id, what Azure refuses about it, and how it becomes real here.

The provider calls a kind in this order: `refuse_create` (under the records' lock), `create`; `refuse_update`,
`update`; `gone` whenever reality matters; `refuse_delete` (under the lock), `delete`. All of them may block. `delete`
and everything it undoes are idempotent, because an interrupted one is repeated.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from dr.errors import Conflict, Refused
from dr.local.azurite import Azurite
from dr.local.standin.records import Record, Records
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders

Values = Mapping[str, Any]
LOCAL_TAG = "LOCAL"
LOCAL_TAG_TEXT = "realised on this machine"


@dataclass(frozen=True, slots=True)
class Cloud:
    """What kinds work on: the folders, what exists, the storage; `cancelled` is set when the run is interrupted."""

    folders: Folders
    records: Records
    azurite: Azurite
    cancelled: threading.Event


@dataclass(frozen=True, slots=True)
class Voice:
    """How a kind talks to the person at the terminal while it works on one resource."""

    status: Callable[[str], None]
    warning: Callable[[str], None]


def azure_error(code: str, message: str, *, remedy: str = "") -> Conflict:
    """Return an error as Azure would word it: its code first, then the text."""
    return Conflict(f"{code}: {message}", code=code, remedy=remedy)


class Kind:
    """One resource type; subclasses realise it. By itself it is a plain record."""

    resource_type: ClassVar[str]
    arm_type: ClassVar[str]
    # Below the subscription; the names in braces are inputs, and their change replaces the resource.
    path: ClassVar[str]
    # The resource that must exist, in the same notation; None: only the resource group of `path`.
    parent: ClassVar[str | None] = None
    # The input that names the resource; it is made up from the logical name when the program leaves it out.
    name_input: ClassVar[str]
    name_pattern: ClassVar[str] = r"[A-Za-z0-9_]([\w.()-]{0,78}[\w()])?"
    # Inputs beyond those of `path` whose change replaces the resource.
    also_replacing: ClassVar[tuple[str, ...]] = ("location",)
    # Inputs that are secret: only the engine's state, which is encrypted, ever keeps them.
    secrets: ClassVar[frozenset[str]] = frozenset()
    tagged: ClassVar[bool] = True

    def resource_id(self, inputs: Values) -> str:
        """Return the ARM id."""
        return f"/subscriptions/{LOCAL_SUBSCRIPTION}{self.path.format_map(inputs)}"

    def parent_id(self, inputs: Values) -> str | None:
        """Return the ARM id of what must exist before, or None."""
        template = self.parent
        if template is None:
            template = "/resourceGroups/{resourceGroupName}" if "{resourceGroupName}" in self.path else None
        return None if template is None else f"/subscriptions/{LOCAL_SUBSCRIPTION}{template.format_map(inputs)}"

    def path_inputs(self) -> tuple[str, ...]:
        return tuple(re.findall(r"{(\w+)}", self.path))

    def replacing(self) -> tuple[str, ...]:
        """Return the inputs whose change replaces the resource, as the official plugin's `forceNew`."""
        return (*self.path_inputs(), *self.also_replacing)

    def made_up_name(self, logical: str, seed: bytes) -> str:
        """Return a name for a resource whose program gives none; `seed` is stable over preview and up."""
        return f"{logical}{seed[:4].hex()}"

    def refuse_name(self, name: str) -> None:
        """Raise when Azure would not take the name."""
        if not re.fullmatch(self.name_pattern, name):
            raise azure_error("InvalidResourceName", f'resource name "{name}" is invalid for {self.arm_type}')

    def refuse_create(self, cloud: Cloud, resource_id: str, inputs: Values) -> None:
        """Raise when Azure would refuse to make this resource now."""

    def create(self, cloud: Cloud, record: Record, voice: Voice) -> dict[str, Any]:
        """Make the resource and return its outputs."""
        return self.outputs(record)

    def refuse_update(self, cloud: Cloud, record: Record, inputs: Values) -> None:
        """Raise when Azure would refuse to change the resource to `inputs`."""

    def update(self, cloud: Cloud, record: Record, inputs: Values, voice: Voice) -> dict[str, Any]:
        """Change the resource and return its outputs; `record` holds the inputs as they were."""
        return {**record.outputs, **self.visible(inputs)}

    def apply(self, cloud: Cloud, record: Record, voice: Voice) -> None:
        """Carry a changed record over to what depends on it."""

    def refuse_delete(self, cloud: Cloud, record: Record) -> None:
        """Raise when Azure would refuse to delete the resource now."""

    def delete(self, cloud: Cloud, record: Record, voice: Voice) -> None:
        """Undo what `create` made."""

    def gone(self, cloud: Cloud, record: Record) -> bool:
        """Say whether what the record stands for has disappeared without being deleted."""
        return False

    def outputs(self, record: Record) -> dict[str, Any]:
        """Return the outputs that every type has."""
        return {
            "name": record.name,
            "type": self.arm_type,
            "provisioningState": "Succeeded",
            **self.visible(record.inputs),
        }

    def visible(self, inputs: Values) -> dict[str, Any]:
        """Return the part of the inputs that Azure answers with, tagged as local where the type has tags."""
        hidden = {*self.path_inputs(), *self.secrets}
        shown = {key: value for key, value in inputs.items() if key not in hidden and key[:2] != "__"}
        return {**shown, "tags": {**inputs.get("tags", {}), LOCAL_TAG: LOCAL_TAG_TEXT}} if self.tagged else shown

    def recorded(self, inputs: Values) -> dict[str, Any]:
        """Return the part of the inputs that a record may keep."""
        return {key: value for key, value in inputs.items() if key not in self.secrets}


class Judged(Kind):
    """A kind whose inputs Azure judges alike when they are made and when they are changed."""

    def refuse_update(self, cloud: Cloud, record: Record, inputs: Values) -> None:
        self.refuse_create(cloud, record.id, inputs)


class Extension(Kind):
    """A kind that hangs on any scope (a subscription, a group, a resource), which is the first input of its path."""

    also_replacing: ClassVar[tuple[str, ...]] = ()
    tagged = False

    def resource_id(self, inputs: Values) -> str:
        return self.path.format_map({**inputs, self.path_inputs()[0]: self._scope(inputs)})

    def parent_id(self, inputs: Values) -> str | None:
        scope = self._scope(inputs)
        return None if scope.count("/") == 1 else f"/{scope}"  # a subscription is always there

    def _scope(self, inputs: Values) -> str:
        return str(inputs[self.path_inputs()[0]]).strip("/")


def existing(cloud: Cloud, resource_id: str, resource_type: str, needed_by: str) -> Record:
    """Return the record that another resource refers to. Azure's `InvalidResourceReference` when there is none."""
    record = cloud.records.find(resource_id)
    if record is None or record.resource_type != resource_type:
        raise azure_error(
            "InvalidResourceReference",
            f"resource {resource_id} referenced by {needed_by} was not found; it has to exist, in the same region",
        )
    return record


def same_location(record: Record, location: str, needed_by: str) -> None:
    """Raise unless a referenced resource lies in `location` (Azure compares without spaces and case)."""
    if _plain(record.location) != _plain(location):
        raise azure_error(
            "InvalidResourceReference",
            f"{record.id} is in {record.location}, {needed_by} in {location}: both have to be in the same region",
        )


def user_of(cloud: Cloud, resource_id: str, *resource_types: str) -> Record | None:
    """Return a resource whose inputs refer to another by its id, one of `resource_types` when they are given."""
    wanted = resource_id.lower()
    for record in cloud.records.all():
        if resource_types and record.resource_type not in resource_types:
            continue
        if any(referred.lower() == wanted for referred in _referred(record.inputs)):
            return record
    return None


def _referred(value: Any) -> Iterator[str]:
    """Yield the ids that inputs refer to: in ARM they stand in objects with the one key "id"."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key == "id" and isinstance(item, str):
                yield item
            else:
                yield from _referred(item)
    elif isinstance(value, list):
        for item in value:
            yield from _referred(item)


def names_of(resource_id: str) -> dict[str, str]:
    """Return the segments of an ARM id as a map, `{"resourceGroups": …, "disks": …}`. `Refused` when it is none."""
    parts = resource_id.strip("/").split("/")
    if len(parts) < 4 or len(parts) % 2 or parts[0].lower() != "subscriptions":
        raise Refused(f'LinkedInvalidPropertyId: "{resource_id}" is no resource id', code="LinkedInvalidPropertyId")
    if parts[1].lower() != LOCAL_SUBSCRIPTION:
        raise Refused(
            f"SubscriptionNotFound: the subscription {parts[1]} could not be found", code="SubscriptionNotFound"
        )
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _plain(location: str) -> str:
    return location.replace(" ", "").lower()
