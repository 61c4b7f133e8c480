"""The parts of a P&L against worked cases, and their sum against cash and holdings."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.economics.attribution import LegFill, RepairFill, attribute

D = Decimal


def legs(*rows: tuple[str, int, str, str, str, str, str]) -> list[LegFill]:
    return [LegFill(asset, d, *(D(text) for text in numbers)) for asset, d, *numbers in rows]


#: legs, repairs, fees, funding, marks; edge missed latency slippage broken marks fees funding
CASES = {
    "whole": (
        legs(("A", 1, "1", "1", "100", "100", "100"), ("A", -1, "1", "1", "101", "101", "101")),
        [],
        ".2",
        "0",
        {"A": "100"},
        "1 0 0 0 0 0 -.2 0",
    ),
    "late and slipped": (
        legs(("A", 1, "1", "1", "100", "100.1", "100.15"), ("A", -1, "1", "1", "101", "100.9", "100.9")),
        [],
        ".2",
        "0",
        {"A": "100"},
        "1 0 -.2 -.05 0 0 -.2 0",
    ),
    "lone buy": (
        legs(("A", 1, "1", "1", "100", "100", "100"), ("A", -1, "1", "0", "101", "101", "0")),
        [RepairFill("A", -1, D(1), D("99.7"))],
        ".1",
        "0",
        {"A": "99.7"},
        "1 -1 0 0 -.3 0 -.1 0",
    ),
    "half matched": (
        legs(("A", 1, "1", "1", "100", "100", "100"), ("A", -1, "1", ".5", "101", "101", "101")),
        [],
        ".1",
        "0",
        {"A": "99.5"},
        "1 -.5 0 0 -.25 0 -.1 0",
    ),
    "open hedge": (
        legs(("S", 1, "1", "1", "100", "100", "100"), ("F", -1, "1", "1", "100.4", "100.4", "100.35")),
        [],
        ".1",
        ".05",
        {"S": "110", "F": "110.1"},
        ".4 0 0 -.05 0 -.1 -.1 .05",
    ),
    "liquidated leg": (
        legs(("S", 1, "1", "1", "100", "100", "100"), ("F", -1, "1", "1", "100.4", "100.4", "100.4")),
        [],
        ".2",
        "0",
        {"S": "131", "F": "132"},
        ".4 0 0 0 0 -1 -.2 0",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_worked_cases(name: str) -> None:
    rows, repairs, fees, funding, marks, wanted = CASES[name]
    found = attribute(rows, repairs, D(fees), D(funding), {asset: D(mark) for asset, mark in marks.items()})
    assert list(found) == [D(text) for text in wanted.split()]


amounts = st.decimals("0", "5", places=3)
prices = st.decimals("90", "110", places=2)


@given(
    st.lists(
        st.tuples(st.sampled_from("AB"), st.sampled_from([1, -1]), amounts, amounts, prices, prices, prices),
        min_size=1,
        max_size=4,
    ),
    st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from([1, -1]), amounts, prices), max_size=3),
    amounts,
    prices,
    prices,
)
def test_parts_add_up_to_cash_and_holdings(
    rows: list[tuple[str, int, Decimal, Decimal, Decimal, Decimal, Decimal]],
    fixes: list[tuple[str, int, Decimal, Decimal]],
    fees: Decimal,
    mark_a: Decimal,
    mark_b: Decimal,
) -> None:
    marks = {"A": mark_a, "B": mark_b}
    found = attribute([LegFill(*row) for row in rows], [RepairFill(*fix) for fix in fixes], fees, D("0.7"), marks)
    cash = -fees + D("0.7")
    held = {"A": D(0), "B": D(0)}
    for asset, d, _, filled, _, _, price in rows:
        cash -= d * filled * price
        held[asset] += d * filled
    for asset, d, qty, price in fixes:
        cash -= d * qty * price
        held[asset] += d * qty
    assert found.total == cash + sum(qty * marks[asset] for asset, qty in held.items())


def test_an_asset_without_a_mark_has_no_profit() -> None:
    with pytest.raises(KeyError):
        attribute(legs(("A", 1, "1", "1", "100", "100", "100")), [], D(0), D(0), {})
