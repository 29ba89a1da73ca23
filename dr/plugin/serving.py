"""Serve a provider to the engine: `serve(make, version)` is the whole `main` of a provider's executable.

Rules:
- Errors are one line and a remedy (`dr.plugin.failures`); a traceback of ours goes to the engine's debug log only.
- `PartlyCreated` from `create` or `update` is kept in the state with its reasons.
- The process ends when the engine that started it is gone: gRPC cancels the calls of a dead engine but leaves the
  process running (tried: minutes later it still was).
- One event loop serves all calls, so blocking work belongs in `asyncio.to_thread`.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

import grpc
import grpc.aio
from google.protobuf import empty_pb2
from pulumi.provider.experimental import provider as sdk
from pulumi.provider.experimental import server
from pulumi.provider.experimental.property_value import PropertyValue
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2, provider_pb2_grpc, status_pb2

from dr.plain import plain
from dr.plugin.failures import PartlyCreated, one_line
from dr.undumpable import forbid_dumps

PARENT_WATCH_SECONDS = 0.5

_old_inputs: contextvars.ContextVar[Mapping[str, PropertyValue]] = contextvars.ContextVar("old_inputs")


def old_inputs() -> Mapping[str, PropertyValue]:
    """Return the inputs of the last successful `up`, inside `Provider.diff` (the SDK's request lacks them)."""
    return _old_inputs.get()


class EngineLog:
    """The engine's log: the status line of a resource, and lasting diagnostics. Safe to call from any thread."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stub: Any = None

    def open(self) -> None:
        """Connect; call it inside the event loop."""
        self._loop = asyncio.get_running_loop()
        self._stub = engine_pb2_grpc.EngineStub(grpc.aio.insecure_channel(self._address))

    def status(self, urn: str, text: str) -> None:
        """Show `text` in the resource's status line while it is worked on."""
        self._send(engine_pb2.LogRequest(severity=engine_pb2.INFO, message=plain(text), urn=urn, ephemeral=True))

    def info(self, urn: str, text: str) -> None:
        """Keep `text` under the run's diagnostics."""
        self._send(engine_pb2.LogRequest(severity=engine_pb2.INFO, message=plain(text), urn=urn))

    def warning(self, urn: str, text: str) -> None:
        """Keep `text` as a warning under the run's diagnostics."""
        self._send(engine_pb2.LogRequest(severity=engine_pb2.WARNING, message=plain(text), urn=urn))

    def debug(self, urn: str, text: str) -> None:
        """Keep `text` for `pulumi … --debug` only."""
        self._send(engine_pb2.LogRequest(severity=engine_pb2.DEBUG, message=plain(text), urn=urn))

    def _send(self, request: engine_pb2.LogRequest) -> None:
        if self._loop is not None and not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._deliver(request), self._loop)

    async def _deliver(self, request: engine_pb2.LogRequest) -> None:
        try:
            await self._stub.Log(request)
        except grpc.aio.AioRpcError:
            # The engine is going away; there is nobody left to tell.
            self._loop = None


class Servicer(server.ProviderServicer):
    """The SDK's servicer with errors for people, partial state and the old inputs in `diff`."""

    def __init__(self, argv: list[str], version: str, provider: sdk.Provider, log: EngineLog) -> None:
        super().__init__(argv, version, provider, engine_address=argv[0])
        self._log = log

    async def CheckConfig(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        return await self._guarded(super().CheckConfig, request, context)

    async def Configure(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        return await self._guarded(super().Configure, request, context)

    async def DiffConfig(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        # The engine's client closes under a replacing DiffConfig of a default provider (tried); check_config is
        # where a foreign configuration is refused, so this always answers "no difference".
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        return await self._guarded(super().Check, request, context)

    async def Diff(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        _old_inputs.set(PropertyValue.unmarshal_map(request.old_inputs))
        return await self._guarded(super().Diff, request, context)

    async def Create(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        return await self._guarded(super().Create, request, context)

    async def Read(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        return await self._guarded(super().Read, request, context)

    async def Update(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        return await self._guarded(super().Update, request, context)

    async def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        return await self._guarded(super().Delete, request, context)

    async def Invoke(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        return await self._guarded(super().Invoke, request, context)

    async def Attach(self, request: Any, context: Any) -> Any:  # noqa: N802 - the protocol's name
        return empty_pb2.Empty()

    async def _guarded(self, call: Callable[[Any, Any], Awaitable[Any]], request: Any, context: Any) -> Any:
        try:
            return await call(request, context)
        except NotImplementedError:
            raise
        except Exception as wrapped:
            # The SDK raises a new exception with the traceback in its text; ours is its context.
            error = wrapped.__context__ or wrapped
            await self._abort(error, getattr(request, "urn", ""), context)

    async def _abort(self, error: BaseException, urn: str, context: Any) -> NoReturn:
        metadata: tuple[tuple[str, bytes], ...] = ()
        if isinstance(error, PartlyCreated):
            metadata = (("grpc-status-details-bin", _partial_status(error)),)
        else:
            self._log.debug(urn, "".join(traceback.format_tb(error.__traceback__)))
        await context.abort(grpc.StatusCode.UNKNOWN, one_line(error), trailing_metadata=metadata)
        raise AssertionError("abort always raises")


def _partial_status(error: PartlyCreated) -> bytes:
    detail = provider_pb2.ErrorResourceInitFailed(
        id=error.resource_id,
        properties=PropertyValue.marshal_map(error.outputs),
        inputs=PropertyValue.marshal_map(error.inputs),
        reasons=error.reasons,
    )
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=one_line(error))
    status.details.add().Pack(detail)
    content: bytes = status.SerializeToString()
    return content


def serve(make: Callable[[EngineLog], sdk.Provider], version: str, argv: list[str] | None = None) -> None:
    """Run the provider that `make` builds until the engine ends it; `argv[0]` is the engine's address."""
    arguments = [a for a in (sys.argv[1:] if argv is None else argv) if not a.startswith("-")]
    if not arguments:
        sys.exit("this program is a Pulumi plugin; the Pulumi CLI starts it with the engine's address")
    forbid_dumps()
    try:
        asyncio.run(_serve(make, version, arguments))
    except KeyboardInterrupt:
        return


async def _serve(make: Callable[[EngineLog], sdk.Provider], version: str, arguments: list[str]) -> None:
    parent = os.getppid()
    log = EngineLog(arguments[0])
    log.open()
    provider = make(log)
    listener = grpc.aio.server(options=_GRPC_CHANNEL_OPTIONS)
    servicer = Servicer(arguments, version, provider, log)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, listener)
    port = listener.add_insecure_port("127.0.0.1:0")
    await listener.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    watch = asyncio.create_task(_end_with_parent(parent, provider))
    try:
        await listener.wait_for_termination()
    finally:
        watch.cancel()
        await listener.stop(None)


async def _end_with_parent(parent: int, provider: sdk.Provider) -> None:
    while os.getppid() == parent:  # noqa: ASYNC110 - the kernel offers no event for this that threads of Go survive
        await asyncio.sleep(PARENT_WATCH_SECONDS)
    await provider.cancel()
    # Threads that still work would keep the interpreter alive; what they write is renamed into place only at the
    # end, so leaving now leaves nothing half made.
    os._exit(1)
