"""The price line, transfers and the quantile of recent edges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.economics.inventory_price import (
    HEIGHT_MIN_BPS,
    HITS,
    EdgeHeight,
    hours_to_empty,
    lots_to_send,
    price_bps,
    transfer_worth,
)


@pytest.mark.parametrize(
    ("x", "forward", "reverse", "price", "lots", "worth"),
    [
        (0, 8, 8, 0, 0, 0),
        (15, 8, 8, 4, 15, 6.00),
        (30, 8, 8, 8, 30, 24.00),
        (0, 14, 0.5, 6.75, 27.9, 18.85),
        (-28, 14, 0.5, -0.017, -0.1, 0),
        (30, 14, 0.5, 14, 57.9, 81.10),
        (-30, 14, 0.5, -0.5, -2.1, 0.10),
    ],
)
def test_worked_cases(x: float, forward: float, reverse: float, price: float, lots: float, worth: float) -> None:
    assert price_bps(x, 30, forward, reverse) == pytest.approx(price, abs=0.0005)
    assert lots_to_send(x, 30, forward, reverse) == pytest.approx(lots, abs=0.05)
    assert transfer_worth(x, 30, forward, reverse, 2000) == pytest.approx(worth, abs=0.005)


@given(st.floats(-60, 60), st.floats(0.5, 50), st.floats(0.5, 50))
def test_the_price_rises_with_inventory_and_stays_within_its_ends(x: float, forward: float, reverse: float) -> None:
    price = price_bps(x, 30, forward, reverse)
    assert -reverse - 1e-9 <= price <= forward + 1e-9
    assert price_bps(x + 1, 30, forward, reverse) >= price - 1e-9


def test_height_is_the_upper_quartile_of_the_newest_hits() -> None:
    assert EdgeHeight().bps == HEIGHT_MIN_BPS
    assert EdgeHeight([-5.0, -1.0]).bps == HEIGHT_MIN_BPS
    assert EdgeHeight([0, 4, 8, 12, 16]).bps == 12
    height = EdgeHeight([100.0] * HITS)
    for _ in range(HITS):
        height.add(2.0)
    assert height.bps == 2.0


def test_hours_to_empty_run_to_the_end_of_the_flow() -> None:
    assert hours_to_empty(10, 30, 5) == 4
    assert hours_to_empty(10, 30, -5) == 8
    assert hours_to_empty(10, 30, 0) == float("inf")
