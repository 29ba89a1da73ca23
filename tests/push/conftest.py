"""Fixtures of the push room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dr.certificates.authority import Authority, create
from tests.push.rig import Server, package, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def authority() -> Authority:
    return create("ca-harbour")


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    return package(tmp_path / "agent.pyz", "1")
