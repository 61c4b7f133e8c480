"""For how long a leg stands alone in storms on virtual time, with the windows of production."""

from __future__ import annotations

import pytest

from tests.unit.virtual.naked_storm import quantile, storm


@pytest.mark.parametrize("loss", ["", "drop_request", "drop_response"])
def test_hardly_any_leg_stands_alone_for_a_second(loss: str) -> None:
    """Refusals and prices that go are in every storm; a lost request or answer is made up for elsewhere."""
    spans = [span for seed in range(2) for span in storm(seed, 25, loss=loss)]
    assert len(spans) > 30
    assert quantile(spans, 0.99) <= 1000.0
