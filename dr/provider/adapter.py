"""The provider as the engine sees it: hands each call to the type that the URN names.

Rules:
- Every call of a type runs in a thread, because one event loop serves them all.
- `cancel` sets one event for all sessions. The engine also calls it at the end of every run.
- A second resource with the same address cannot exist beside the first: replacements delete first.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

from pulumi.provider.experimental import provider as sdk

from dr.errors import NotFound
from dr.plugin.differences import difference
from dr.plugin.failures import PartlyCreated, one_line
from dr.plugin.serving import EngineLog, old_inputs
from dr.plugin.values import unwrap_all, wrap_all
from dr.provider.resource import NotReady, Properties, ResourceType, Session

Configuration = dict[str, str]


class Provider(sdk.Provider):
    """Serve the resource types of `registry` (token to type); `configuration` receives the `dr:` settings."""

    def __init__(self, log: EngineLog, registry: Mapping[str, ResourceType], configuration: Configuration) -> None:
        super().__init__()
        self._log = log
        self._registry = registry
        self._configuration = configuration
        self._cancelled = threading.Event()

    async def configure(self, request: sdk.ConfigureRequest) -> sdk.ConfigureResponse:
        values = unwrap_all(request.args)
        self._configuration.update({name: str(value) for name, value in values.items() if value is not None})
        return sdk.ConfigureResponse(accept_secrets=True, supports_preview=True)

    async def check_config(self, request: sdk.CheckRequest) -> sdk.CheckResponse:
        return sdk.CheckResponse(request.new_inputs)

    async def cancel(self) -> None:
        self._cancelled.set()

    async def check(self, request: sdk.CheckRequest) -> sdk.CheckResponse:
        inputs = _plain(request.new_inputs)
        problems = self._type(request.type).check(inputs)
        failures = [sdk.CheckFailure(problem.property, problem.reason) for problem in problems]
        return sdk.CheckResponse(request.new_inputs, failures)

    async def diff(self, request: sdk.DiffRequest) -> sdk.DiffResponse:
        kind = self._type(request.type)
        response = difference(
            _plain(old_inputs()),
            _plain(request.new_inputs),
            replacing=lambda path: path.split(".")[0].split("[")[0] not in kind.in_place,
            ignore=request.ignore_changes,
            delete_before_replace=True,
        )
        due = None if response.changes else await asyncio.to_thread(kind.due, _plain(request.old_state))
        if due:
            detail = {due: sdk.PropertyDiff(sdk.PropertyDiffKind.UPDATE, input_diff=False)}
            return sdk.DiffResponse(changes=True, diffs=[due], detailed_diff=detail)
        return response

    async def create(self, request: sdk.CreateRequest) -> sdk.CreateResponse:
        kind, inputs = self._type(request.type), _plain(request.properties)
        if request.preview:
            known = await asyncio.to_thread(kind.preview, inputs)
            return sdk.CreateResponse("", wrap_all(known))
        session = self._session(request.urn)
        try:
            resource_id, outputs = await asyncio.to_thread(kind.create, inputs, session)
        except NotReady as error:
            raise _partly(error, inputs) from error
        return sdk.CreateResponse(resource_id, wrap_all(outputs))

    async def read(self, request: sdk.ReadRequest) -> sdk.ReadResponse:
        kind, state = self._type(request.type), _plain(request.properties)
        if not state:
            raise NotFound(
                f"{kind.name} cannot be imported by an id alone", remedy="run `pulumi up`, which takes over what exists"
            )
        outputs = await asyncio.to_thread(kind.read, request.resource_id, state, self._session(request.urn))
        if outputs is None:
            return sdk.ReadResponse("", {}, {})
        names = {*kind.required, *kind.optional}
        inputs = {name: value for name, value in outputs.items() if name in names}
        return sdk.ReadResponse(request.resource_id, wrap_all(outputs), wrap_all(inputs))

    async def update(self, request: sdk.UpdateRequest) -> sdk.UpdateResponse:
        kind, state, inputs = self._type(request.type), _plain(request.olds), _plain(request.news)
        if request.preview:
            kept = {name: value for name, value in state.items() if name not in kind.unclear}
            return sdk.UpdateResponse(wrap_all({**kept, **inputs}))
        session = self._session(request.urn)
        try:
            outputs = await asyncio.to_thread(kind.update, request.resource_id, state, inputs, session)
        except NotReady as error:
            raise _partly(error, inputs) from error
        return sdk.UpdateResponse(wrap_all(outputs))

    async def delete(self, request: sdk.DeleteRequest) -> None:
        kind, state = self._type(request.type), _plain(request.properties)
        await asyncio.to_thread(kind.delete, request.resource_id, state, self._session(request.urn))

    def _type(self, token: str) -> ResourceType:
        if token not in self._registry:
            raise NotFound(f'the provider "dr" has no resource type {token}')
        return self._registry[token]

    def _session(self, urn: str) -> Session:
        return Session(
            progress=lambda text: self._log.status(urn, text),
            warn=lambda text: self._log.warning(urn, text),
            cancelled=self._cancelled,
        )


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in unwrap_all(values).items() if value is not None}


def _partly(error: NotReady, inputs: Properties) -> PartlyCreated:
    # The engine shows the reasons of a partial state and nothing else, so the remedy goes with them.
    return PartlyCreated(error.resource_id, wrap_all(error.outputs), wrap_all(inputs), [one_line(error)])
