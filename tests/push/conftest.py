"""Fixtures of the push room."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dr.certificates.site import SiteCertificates
from tests.certificates.holders import site_certificates
from tests.push.rig import Server, package, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> SiteCertificates:
    return site_certificates(tmp_path_factory.mktemp("site"), "harbour")


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    return package(tmp_path / "agent.pyz", "1")
