"""A real disk (loop device), a real site and a real agent process for each test that asks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agent.protected import Protected
from tests.agent.whole_site import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    running = Site(tmp_path / "site")
    yield running
    running.close()


@pytest.fixture
def protected(tmp_path: Path, site: Site) -> Iterator[Protected]:
    server = Protected(tmp_path / "server", site)
    yield server
    server.close()
