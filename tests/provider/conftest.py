"""Fixtures of the provider's types."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.provider.worlds import Surroundings


@pytest.fixture
def around(tmp_path: Path) -> Surroundings:
    return Surroundings(tmp_path)
