"""The programs under Pulumi's mocks: nothing is made, what they register is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pulumi
from pulumi.runtime import mocks, rpc, settings

DISK = {"name": "os", "blob": "shop1/os.vhd", "snapshot": "2026-11-23T12:00:00.0000000Z"}
MORE = {"name": "data", "blob": "shop1/data.vhd", "snapshot": "2026-11-23T12:00:00.0000000Z"}
MADE: dict[str, dict[str, Any]] = {
    # A list on its way to Azure, a map on its way back.
    "azure-native:app:Job": {"identity": {"type": "UserAssigned", "userAssignedIdentities": {}}},
    "azure-native:managedidentity:UserAssignedIdentity": {
        "principalId": "6f1c1f0e-3f0a-4b0e-9c1b-0d1d6f3f2f0e",
        "clientId": "7f1c1f0e-3f0a-4b0e-9c1b-0d1d6f3f2f0e",
    },
    "azure-native:compute:VirtualMachine": {"vmId": "5ba1dcb9-9a4b-4b2c-8f3a-0d1d6f3f2f0e"},
    "dr:index:RecoveryPoint": {
        "pointId": "shop1-1-7",
        "cutTime": "2026-11-23T12:00:00.000Z",
        "selectedTime": "2026-11-23T12:00:30.000Z",
        "disks": [DISK, MORE],
    },
    "dr:index:BlobCopy": {"url": "http://store/runs/shop/r1/shop1/os.vhd"},
    "dr:index:Action": {"state": "done", "said": "exit code 0", "attempt": 1},
    "dr:index:HealthCheck": {"endpoint": "127.0.0.1:1", "passedAt": "2026-11-23T12:01:00.000Z"},
}


class Recorder(mocks.Mocks):
    def __init__(self) -> None:
        self.made: dict[str, mocks.MockResourceArgs] = {}
        self.requests: list[Any] = []

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.made[f"{args.typ}::{args.name}"] = args
        own = {key: value for key, value in args.inputs.items() if key.endswith("Name") and key != "resourceGroupName"}
        named = args.name if args.name in args.inputs.values() else next(iter(own.values()), args.name)
        return f"/id/{args.name}", {"name": named, **args.inputs, **MADE.get(args.typ, {})}

    def call(self, args: mocks.MockCallArgs) -> Any:
        raise AssertionError(f"a program asked {args.token}: it must not ask anything")

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        return {
            key.partition("::")[2]: dict(args.inputs) for key, args in self.made.items() if key.startswith(f"{kind}::")
        }

    def options(self, kind: str) -> list[Any]:
        return [request for request in self.requests if request.type.startswith(kind)]


class Monitor(mocks.MockMonitor):
    """The mock monitor, keeping what was asked of it: the resource options are only there."""

    def __init__(self, recorder: Recorder) -> None:
        super().__init__(recorder)
        self._recorder = recorder

    def RegisterResource(self, request: Any) -> Any:
        self._recorder.requests.append(request)
        return super().RegisterResource(request)  # type: ignore[no-untyped-call]  # the SDK's is untyped


Run = Callable[[Callable[[], None]], Recorder]


@contextmanager
def mocked() -> Iterator[Run]:
    """Yield what runs a program and returns what it registered."""

    def program(declare: Callable[[], None]) -> Recorder:
        recorder = Recorder()
        mocks.set_mocks(recorder, project="lifeboat", stack="x-local", preview=False, monitor=Monitor(recorder))
        pulumi.runtime.test(declare)()  # type: ignore[no-untyped-call]  # as above
        return recorder

    # The SDK asks for the thread's loop, and a test before this one may have closed it (`asyncio.run` does).
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield program
    finally:
        settings.reset_options()
        asyncio.set_event_loop(None)
        loop.close()


def plain(value: Any) -> Any:
    """Return a registered value as it goes to Azure: a secret is only marked on its way to the engine."""
    if rpc.is_rpc_secret(value):
        return plain(rpc.unwrap_rpc_secret(value))
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item is not None}
    return [plain(item) for item in value] if isinstance(value, list) else value
