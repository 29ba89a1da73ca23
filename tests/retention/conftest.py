"""Fixtures of the retention tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.retention.vaults import Vault


@pytest.fixture
def vault() -> Iterator[Vault]:
    made = Vault()
    yield made
    made.close()
