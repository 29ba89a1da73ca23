"""A served provider, spoken to as the engine does: over gRPC, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from google.protobuf import struct_pb2
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc, status_pb2

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = Path(__file__).with_name("serving_example.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def stub() -> Iterator[Any]:
    # Nothing listens at the engine's address: a provider must bear that.
    child = subprocess.Popen([sys.executable, EXAMPLE, "127.0.0.1:9"], stdout=subprocess.PIPE, env=ENVIRONMENT)
    assert child.stdout is not None
    port = int(child.stdout.readline())
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield provider_pb2_grpc.ResourceProviderStub(channel)
    child.kill()
    child.wait()


def urn(name: str) -> str:
    return f"urn:pulumi:s::p::example:index:Thing::{name}"


def failure_of(stub: Any, name: str) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        stub.Create(provider_pb2.CreateRequest(urn=urn(name)))
    return caught.value


def test_an_expected_failure_is_one_line_with_a_remedy(stub: Any) -> None:
    assert failure_of(stub, "refused").details() == "this is refused (remedy: ask for something else)"


def test_a_bug_shows_no_traceback(stub: Any) -> None:
    assert failure_of(stub, "bug").details() == "unexpected KeyError: 'bug'"


def test_a_partly_created_resource_is_handed_to_the_engine(stub: Any) -> None:
    metadata = dict(failure_of(stub, "partly").trailing_metadata())
    status = status_pb2.Status.FromString(metadata["grpc-status-details-bin"])
    detail = provider_pb2.ErrorResourceInitFailed()
    assert status.details[0].Unpack(detail)
    assert (detail.id, list(detail.reasons), dict(detail.properties)) == ("id-1", ["it is sick"], {"state": "sick"})


@pytest.mark.parametrize(("new", "differs"), [("a", False), ("b", True)])
def test_diff_sees_the_old_inputs(stub: Any, new: str, differs: bool) -> None:
    old_inputs, news = struct_pb2.Struct(), struct_pb2.Struct()
    old_inputs["name"], news["name"] = "a", new
    answer = stub.Diff(provider_pb2.DiffRequest(urn=urn("x"), old_inputs=old_inputs, news=news))
    assert (answer.changes == provider_pb2.DiffResponse.DIFF_SOME) is differs


def test_a_provider_ends_when_its_engine_is_killed(tmp_path: Path) -> None:
    engine_code = (
        "import subprocess, sys, time\n"
        f"child = subprocess.Popen([sys.executable, {str(EXAMPLE)!r}, '127.0.0.1:9'], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    engine = subprocess.Popen([sys.executable, "-c", engine_code], stdout=subprocess.PIPE, env=ENVIRONMENT)
    assert engine.stdout is not None
    provider = psutil.Process(int(engine.stdout.readline()))
    engine.kill()
    engine.wait()
    deadline = time.monotonic() + 20
    while provider.is_running() and provider.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not provider.is_running() or provider.status() == psutil.STATUS_ZOMBIE
