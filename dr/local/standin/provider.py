"""Answers the engine for every resource type of the stand-in: check, diff, create, read, update, delete.

Rules:
- One subscription only, which no tenant has; any other is refused before anything else.
- A preview touches nothing.
- Under the records' lock only what is quick happens: compare, refuse, reserve, remove.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from pulumi.provider.experimental import provider as sdk
from pulumi.provider.experimental.property_value import PropertyValue

from dr.errors import NotFound, Refused
from dr.local.azurite import Azurite
from dr.local.standin.catalogue import KINDS, kind_of, realised_inputs
from dr.local.standin.groups import refuse_locked
from dr.local.standin.kinds import Cloud, Kind, Voice, azure_error
from dr.local.standin.records import Record, Records
from dr.plugin.differences import difference
from dr.plugin.failures import PartlyCreated
from dr.plugin.serving import EngineLog, old_inputs
from dr.plugin.values import has_unknown, unwrap_all, wrap_all
from dr.target.folders import LOCAL_SUBSCRIPTION, Folders

VERSION = "3.29.0"


class StandIn(sdk.Provider):
    """The provider "azure-native" of target local."""

    def __init__(self, folders: Folders, log: EngineLog) -> None:
        self._log = log
        self._cloud = Cloud(folders, Records(folders.resources), Azurite(folders), threading.Event())
        self._metadata = realised_inputs()
        self._location: str | None = None

    async def check_config(self, request: sdk.CheckRequest) -> sdk.CheckResponse:
        values = unwrap_all(request.new_inputs)
        subscription = values.get("subscriptionId")
        if subscription is None or has_unknown(subscription) or subscription.lower() == LOCAL_SUBSCRIPTION:
            return sdk.CheckResponse(request.new_inputs)
        reason = (
            f"{subscription} is a foreign subscription: the local target plays {LOCAL_SUBSCRIPTION} only. "
            'Remedy: choose the target that this stack belongs to with `eval "$(dr env --target azure)"`'
        )
        return sdk.CheckResponse(request.new_inputs, [sdk.CheckFailure("subscriptionId", reason)])

    async def configure(self, request: sdk.ConfigureRequest) -> sdk.ConfigureResponse:
        values = unwrap_all(request.args)
        subscription = str(values.get("subscriptionId", ""))
        if subscription.lower() != LOCAL_SUBSCRIPTION:
            raise Refused(
                f'azure-native:subscriptionId is "{subscription}"; the local target plays {LOCAL_SUBSCRIPTION} only',
                remedy="`dr local up` writes the configuration of the local stacks",
            )
        self._location = values.get("location")
        return sdk.ConfigureResponse(accept_secrets=True, supports_preview=True)

    async def invoke(self, request: sdk.InvokeRequest) -> sdk.InvokeResponse:
        if request.tok != "azure-native:authorization:getClientConfig":
            raise Refused(f'the local target does not realise the function "{request.tok}"', code="not-realised")
        nobody = "00000000-0000-0000-0000-000000000000"
        return sdk.InvokeResponse(
            wrap_all({"clientId": nobody, "objectId": nobody, "subscriptionId": LOCAL_SUBSCRIPTION, "tenantId": nobody})
        )

    async def check(self, request: sdk.CheckRequest) -> sdk.CheckResponse:
        kind = kind_of(request.type)
        inputs, old = dict(request.new_inputs), request.old_inputs
        if kind.name_input not in inputs:
            seed = request.random_seed or b"\0\0\0\0"
            made_up = PropertyValue(kind.made_up_name(request.name, seed))
            inputs[kind.name_input] = old.get(kind.name_input, made_up)
        if self._metadata.has_input(kind.resource_type, "location") and "location" not in inputs and self._location:
            inputs["location"] = PropertyValue(self._location)
        found = list(self._metadata.problems(kind.resource_type, unwrap_all(inputs)))
        return sdk.CheckResponse(inputs, [sdk.CheckFailure(problem.path, problem.reason) for problem in found])

    async def diff(self, request: sdk.DiffRequest) -> sdk.DiffResponse:
        kind = kind_of(request.type)
        return difference(
            unwrap_all(old_inputs()),
            unwrap_all(request.new_inputs),
            replacing=kind.replacing(),
            ignore=request.ignore_changes,
            # As the official plugin: the name is taken until the old one is gone.
            delete_before_replace=True,
        )

    async def create(self, request: sdk.CreateRequest) -> sdk.CreateResponse:
        kind, inputs = kind_of(request.type), unwrap_all(request.properties)
        if request.preview:
            known = {"name": inputs[kind.name_input], "type": kind.arm_type, **kind.visible(inputs)}
            return sdk.CreateResponse("", wrap_all(known))
        record = await asyncio.to_thread(self._create, kind, inputs, self._voice(request.urn))
        return sdk.CreateResponse(record.id, self._answer(record.outputs, request.properties))

    async def update(self, request: sdk.UpdateRequest) -> sdk.UpdateResponse:
        kind, inputs = kind_of(request.type), unwrap_all(request.news)
        if request.preview:
            return sdk.UpdateResponse(wrap_all({**unwrap_all(request.olds), **kind.visible(inputs)}))
        voice = self._voice(request.urn)
        record = await asyncio.to_thread(self._update, kind, request.resource_id, inputs, voice)
        return sdk.UpdateResponse(self._answer(record.outputs, request.news))

    async def read(self, request: sdk.ReadRequest) -> sdk.ReadResponse:
        kind = kind_of(request.type)
        record = await asyncio.to_thread(self._read, kind, request.resource_id)
        if record is None and not request.properties:  # an import: nothing is known of it
            raise NotFound(f"resource '{request.resource_id}' does not exist", remedy="import what exists")
        if record is None:
            return sdk.ReadResponse("", {}, {})
        inputs = request.inputs or wrap_all(record.inputs)
        return sdk.ReadResponse(record.id, self._answer(record.outputs, inputs), inputs)

    async def delete(self, request: sdk.DeleteRequest) -> None:
        kind = kind_of(request.type)
        await asyncio.to_thread(self._delete, kind, request.resource_id, self._voice(request.urn))

    async def cancel(self) -> None:
        # The engine also says this at the end of every run; then nothing is under way.
        self._cloud.cancelled.set()

    def _create(self, kind: Kind, inputs: dict[str, Any], voice: Voice) -> Record:
        records = self._cloud.records
        kind.refuse_name(str(inputs[kind.name_input]))
        resource_id = kind.resource_id(inputs)
        with records.exclusive():
            found = records.find(resource_id)
            if found is not None and (found.state == "creating" or not kind.gone(self._cloud, found)):
                raise azure_error(
                    "ResourceExists",
                    f"cannot create already existing resource '{resource_id}'",
                    remedy="delete it, or import it with `pulumi import`",
                )
            inputs = self._located(kind, inputs, resource_id)
            refuse_locked(self._cloud, resource_id, deleting=False)
            kind.refuse_create(self._cloud, resource_id, inputs)
            record = records.reserve(
                resource_id, kind.resource_type, str(inputs[kind.name_input]), kind.recorded(inputs)
            )
        try:
            ready = record.ready(kind.create(self._cloud, record, voice))
        except PartlyCreated as partly:
            records.save(record.ready(unwrap_all(partly.outputs)))
            raise
        except BaseException:
            records.remove(resource_id)
            raise
        records.save(ready)
        return ready

    def _update(self, kind: Kind, resource_id: str, inputs: dict[str, Any], voice: Voice) -> Record:
        records = self._cloud.records
        with records.exclusive():
            record = records.find(resource_id)
            if record is None:
                raise NotFound(
                    f"ResourceNotFound: the resource '{resource_id}' was not found", remedy="run `pulumi refresh`"
                )
            inputs = self._located(kind, inputs, resource_id)
            refuse_locked(self._cloud, resource_id, deleting=False)
            kind.refuse_update(self._cloud, record, inputs)
        outputs = kind.update(self._cloud, record, inputs, voice)
        changed = Record(
            record.id, record.resource_type, record.name, kind.recorded(inputs), outputs, "ready", record.maker
        )
        records.save(changed)
        kind.apply(self._cloud, changed, voice)
        return changed

    def _read(self, kind: Kind, resource_id: str) -> Record | None:
        record = self._cloud.records.find(resource_id)
        if record is None or record.state != "ready" or kind.gone(self._cloud, record):
            return None
        return record

    def _delete(self, kind: Kind, resource_id: str, voice: Voice) -> None:
        records = self._cloud.records
        with records.exclusive():
            record = records.find(resource_id)
            if record is None:
                return
            refuse_locked(self._cloud, resource_id, deleting=True)
            kind.refuse_delete(self._cloud, record)
        if kind.arm_type == "Microsoft.Resources/resourceGroups":
            self._delete_below(record, voice)
        kind.delete(self._cloud, record, voice)
        records.remove(resource_id)

    def _delete_below(self, group: Record, voice: Voice) -> None:
        """Delete what is left in a resource group, as Azure does: machines first, networks last."""
        order = list(KINDS)
        members = sorted(self._cloud.records.below(group.id), key=lambda record: -order.index(record.resource_type))
        for member in members:
            refuse_locked(self._cloud, member.id, deleting=True)
        for member in members:
            voice.status(f"deleting {member.name}")
            KINDS[member.resource_type].refuse_delete(self._cloud, member)
            KINDS[member.resource_type].delete(self._cloud, member, voice)
            self._cloud.records.remove(member.id)

    def _located(self, kind: Kind, inputs: dict[str, Any], resource_id: str) -> dict[str, Any]:
        """Return the inputs with a location; `ParentResourceNotFound` when what they lie in does not exist."""
        parent_id = kind.parent_id(inputs)
        if parent_id is None:
            return inputs
        parent = self._cloud.records.find(parent_id)
        if parent is None:
            code = "ResourceGroupNotFound" if parent_id.count("/") == 4 else "ParentResourceNotFound"
            raise azure_error(code, f"{parent_id}, in which {resource_id} is to be, could not be found")
        if self._metadata.has_input(kind.resource_type, "location") and not inputs.get("location"):
            return {**inputs, "location": parent.location}
        return inputs

    def _answer(self, outputs: Mapping[str, Any], inputs: Mapping[str, PropertyValue]) -> dict[str, PropertyValue]:
        secret = [name for name, value in inputs.items() if value.is_secret]
        return wrap_all(outputs, secrets=secret)

    def _voice(self, urn: str) -> Voice:
        return Voice(lambda text: self._log.status(urn, text), lambda text: self._log.warning(urn, text))
