"""A provider for the test of serving: fails in the ways a provider can."""

from __future__ import annotations

from pulumi.provider.experimental import provider as sdk

from dr.errors import Refused
from dr.plugin.failures import PartlyCreated
from dr.plugin.serving import EngineLog, old_inputs, serve
from dr.plugin.values import unwrap_all, wrap_all


class Example(sdk.Provider):
    def __init__(self, log: EngineLog) -> None:
        self._log = log

    async def create(self, request: sdk.CreateRequest) -> sdk.CreateResponse:
        self._log.status(request.urn, "working")
        if request.name == "refused":
            raise Refused("this is refused", remedy="ask for something else")
        if request.name == "bug":
            raise KeyError("bug")
        raise PartlyCreated("id-1", wrap_all({"state": "sick"}), request.properties, ["it is sick"])

    async def diff(self, request: sdk.DiffRequest) -> sdk.DiffResponse:
        return sdk.DiffResponse(changes=unwrap_all(old_inputs()) != unwrap_all(request.new_inputs))


if __name__ == "__main__":
    serve(Example, "1.0.0")
