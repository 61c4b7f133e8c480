"""Netting over one shared contract: when it pays, and how much nets."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.economics.netting import nets, netted_qty

D = Decimal
LOT = D("0.1")


@pytest.mark.parametrize(
    ("fee_bps", "price_bps", "pays"),
    [(5, 0, True), (5, 9.9, True), (5, 10, False), (5, 30, False), (5, -3, True), (0, 0, False), (0, -0.1, True)],
)
def test_it_pays_while_two_fees_are_more_than_the_inventory_that_moves(
    fee_bps: float, price_bps: float, pays: bool
) -> None:
    assert nets(fee_bps, price_bps) is pays


@pytest.mark.parametrize(
    ("held", "hit", "least", "qty"),
    [
        ("0.6", "1", "0.1", "0.6"),  # all of the hedge nets; 0.4 of the hit is judged as an entry
        ("1", "0.3", "0.1", "0.3"),
        ("1", "0.95", "0.2", "0.8"),  # 0.05 would stay that no venue takes
        ("0.15", "0.1", "0.1", "0"),  # nothing of it can leave on the lot without such a rest
        ("0.05", "1", "0.1", "0"),
        ("0.05", "0.05", "0", "0"),
    ],
)
def test_worked_quantities(held: str, hit: str, least: str, qty: str) -> None:
    assert netted_qty(D(held), D(hit), LOT, D(least)) == D(qty)


amounts = st.integers(0, 60).map(lambda n: D(n) / 20)


@given(amounts, amounts, amounts)
def test_it_is_the_largest_that_leaves_nothing_or_enough(held: Decimal, hit: Decimal, least: Decimal) -> None:
    """Against every multiple of the lot."""
    fits = [D(0)]
    for lots in range(40):
        qty = lots * LOT
        if qty <= min(held, hit) and (qty == held or held - qty >= least):
            fits.append(qty)
    assert netted_qty(held, hit, LOT, least) == max(fits)
