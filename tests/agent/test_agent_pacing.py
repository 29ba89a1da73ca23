"""What is sent stays below a bandwidth, whatever the sizes and the pauses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from agent.pacing import BURST_SECONDS, Pacer


@given(
    st.lists(st.tuples(st.integers(1, 5 << 20), st.floats(0, 20)), min_size=1, max_size=60), st.integers(64000, 1 << 27)
)
def test_never_more_than_the_limit_and_one_burst(sendings: list[tuple[int, float]], limit: int) -> None:
    pacer, now, total = Pacer(), 100.0, 0
    for size, pause in sendings:
        total += size
        now += pacer.wait_seconds(size, limit, now)
        assert total <= limit * (now - 100.0 + BURST_SECONDS) * (1 + 1e-9) + 1
        now += pause


def test_without_a_limit_nothing_waits_and_nothing_is_owed_later() -> None:
    pacer = Pacer()
    assert pacer.wait_seconds(1 << 30, None, 1.0) == 0.0
    assert pacer.wait_seconds(1000, 1000, 1.0) == 0.0
