"""The price line, transfers and the quantile of recent edges."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.economics.inventory_price import (
    HEIGHT_MIN_BPS,
    HITS,
    BudgetPrice,
    EdgeHeight,
    heights,
    hours_to_empty,
    lots_to_send,
    price_bps,
    transfer_worth,
    with_budget,
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


def quantile_75(edges: list[float]) -> float:
    """The twin: the value below which three quarters of the steps between sorted edges lie."""
    ordered = sorted(max(0.0, edge) for edge in edges)
    place = Fraction(3, 4) * (len(ordered) - 1)
    low = place.numerator // place.denominator
    if low + 1 == len(ordered):
        return max(HEIGHT_MIN_BPS, ordered[low])
    return max(HEIGHT_MIN_BPS, ordered[low] + (ordered[low + 1] - ordered[low]) * float(place - low))


edge_lists = st.lists(st.floats(-50, 50), min_size=1, max_size=60)


@given(edge_lists, edge_lists)
def test_heights_lie_between_what_a_direction_has_shown_and_what_both_have(
    forward: list[float], backward: list[float]
) -> None:
    both = quantile_75(forward + backward)
    trust = (len(forward) + len(backward)) / (len(forward) + len(backward) + 20)
    found = heights(EdgeHeight(forward), EdgeHeight(backward))
    assert found == pytest.approx([trust * quantile_75(own) + (1 - trust) * both for own in (forward, backward)])


def test_the_first_hit_of_one_direction_does_not_price_it_and_the_hundredth_does() -> None:
    once, often = heights(EdgeHeight([20.0]), EdgeHeight()), heights(EdgeHeight([20.0] * 100), EdgeHeight())
    assert 0 < price_bps(0, 30, *once) < 1
    assert price_bps(0, 30, *often) > 7


@given(st.lists(st.tuples(st.floats(-50, 50), st.booleans()), max_size=3 * HITS))
def test_the_orders_price_is_what_the_newest_hits_lost_for_want_of_room(hits: list[tuple[float, bool]]) -> None:
    budget = BudgetPrice()
    for edge, lost in hits:
        budget.add(edge, lost=lost)
    newest = hits[-HITS:]
    wanted = sum(max(0.0, edge) for edge, lost in newest if lost) / max(1, len(newest))
    assert budget.bps == pytest.approx(wanted)


@pytest.mark.parametrize(("price", "budget", "wanted"), [(-6, 0, -6), (-6, 2, -4), (-6, 9, 0), (6, 2, 6), (0, 3, 0)])
def test_only_a_return_pays_for_its_orders_and_at_most_what_it_is_paid(
    price: float, budget: float, wanted: float
) -> None:
    assert with_budget(price, budget) == wanted
