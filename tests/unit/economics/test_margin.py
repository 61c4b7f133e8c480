"""Liquidation prices and cuts against worked cases and against bisection on the definition."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.economics.margin import (
    Tier,
    disagree,
    distance,
    distance_of,
    liquidation_price,
    maintenance_rate,
    share_to_close,
)

INF = Decimal("Infinity")
BRACKETS = (
    Tier(Decimal(50_000), Decimal("0.004"), Decimal(0)),
    Tier(Decimal(600_000), Decimal("0.005"), Decimal(50)),
    Tier(Decimal(3_000_000), Decimal("0.0065"), Decimal(950)),
    Tier(INF, Decimal("0.01"), Decimal(11_450)),
)
HALF_PERCENT = (Tier(INF, Decimal("0.005"), Decimal(0)),)
ONE_PERCENT = (Tier(INF, Decimal("0.01"), Decimal(0)),)
ENTRY = Decimal(60_000)


@pytest.mark.parametrize(
    ("d", "qty", "equity", "tiers", "fee", "price", "bps"),
    [
        (-1, "1", 20_000, HALF_PERCENT, "0.00075", "79542.63", "3257.1"),
        (1, "1", 20_000, HALF_PERCENT, "0.00075", "40231.33", "3294.8"),
        (-1, "1", 6_000, HALF_PERCENT, "0.0005", "65638.99", "939.8"),
        (-1, "1", 3_000, HALF_PERCENT, "0.0005", "62655.40", "442.6"),
        (1, "50", 1_000_000, ONE_PERCENT, "0.0005", "40424.46", "3262.6"),
        (-1, "1", 6_000, BRACKETS, "0", "65721.39", "953.6"),
        (1, "1", 6_000, BRACKETS, "0", "54221.11", "963.1"),
        (-1, "9.9", 29_700, BRACKETS, "0", "62688.48", "448.1"),  # crosses a tier
        (-1, "1", 40_000 - 2_000 - 500, BRACKETS, "0", "97064.68", "6177.4"),  # cross
        (-1, "1", 36_540, HALF_PERCENT, "0.0005", "96011.93", "6002.0"),
        (-1, "60", 1_500_000, BRACKETS, "0", "84347.36", "4057.9"),
    ],
)
def test_liquidation_price_of_worked_cases(
    d: int, qty: str, equity: int, tiers: tuple[Tier, ...], fee: str, price: str, bps: str
) -> None:
    found = liquidation_price(d, Decimal(qty), ENTRY, Decimal(equity), tiers, Decimal(fee))
    assert found is not None
    assert round(found, 2) == Decimal(price)
    assert round(distance(d, ENTRY, found) * 10_000, 1) == Decimal(bps)


def test_a_position_that_its_equity_covers_is_never_liquidated() -> None:
    assert liquidation_price(1, Decimal(1), ENTRY, ENTRY, BRACKETS, Decimal(0)) is None
    assert distance(1, ENTRY, None) == INF


@given(
    st.sampled_from([1, -1]),
    st.decimals("0.001", "80", places=3),
    st.decimals("100", "90000", places=1),
    st.decimals("0.01", "0.9", places=3),
    st.sampled_from(["0", "0.0005"]),
)
def test_liquidation_price_is_where_equity_meets_maintenance(
    d: int, qty: Decimal, entry: Decimal, share: Decimal, fee: str
) -> None:
    equity = share * qty * entry
    price = liquidation_price(d, qty, entry, equity, BRACKETS, Decimal(fee))

    def surplus(at: Decimal) -> Decimal:
        return equity + d * qty * (at - entry) - maintenance_rate(qty, at, BRACKETS, Decimal(fee)) * qty * at

    if price is None:
        assert d == 1
        assert surplus(Decimal("1e-6")) > 0
        return
    low, high = (Decimal("1e-9"), entry) if d == 1 else (entry, entry * 3)
    for _ in range(90):
        middle = (low + high) / 2
        if (surplus(middle) > 0) == (d == 1):
            high = middle
        else:
            low = middle
    assert abs(low - price) <= price * Decimal("1e-9")


@pytest.mark.parametrize(
    ("d", "equity", "mark", "wanted"),
    [
        (-1, 20_000, 60_000, "0"),
        (-1, 20_000, 72_000, "0.29298"),
        (-1, 20_000, 75_000, "0.58097"),
        (-1, 20_000, 78_000, "0.84681"),
        (1, 20_000, 45_000, "0.28534"),
        (-1, 6_000, 63_000, "0.70440"),
    ],
)
def test_share_to_close_of_worked_cases(d: int, equity: int, mark: int, wanted: str) -> None:
    share = share_to_close(
        Decimal(mark),
        ENTRY,
        Decimal(1),
        Decimal(equity),
        d,
        Decimal("0.0055"),
        Decimal("0.15"),
        Decimal("0.002"),
    )
    assert round(share, 5) == Decimal(wanted)


@given(st.sampled_from([1, -1]), st.integers(3_000, 30_000), st.integers(52_000, 68_000))
def test_the_cut_brings_the_distance_to_the_target(d: int, equity: int, mark: int) -> None:
    """After the cut: realised P&L and cost in the equity, the released margin added back."""
    maintenance, target, cost = Decimal("0.0055"), Decimal("0.15"), Decimal("0.002")
    at, money = Decimal(mark), Decimal(equity)
    if money + d * (at - ENTRY) <= cost * at:
        return  # nothing left to save
    share = share_to_close(at, ENTRY, Decimal(1), money, d, maintenance, target, cost)
    left = 1 - share
    if not left:
        return
    after = money + d * share * (at - ENTRY) - share * at * cost
    reached = distance_of(d, left, ENTRY, after, at, maintenance)
    before = distance_of(d, Decimal(1), ENTRY, money, at, maintenance)
    assert reached == pytest.approx(max(before, target), rel=Decimal("1e-12")) if share else before >= target


def test_both_forms_of_the_distance_agree() -> None:
    price = liquidation_price(-1, Decimal(1), ENTRY, Decimal(20_000), HALF_PERCENT, Decimal("0.0005"))
    straight = distance(-1, Decimal(63_000), price)
    assert distance_of(-1, Decimal(1), ENTRY, Decimal(20_000), Decimal(63_000), Decimal("0.0055")) == pytest.approx(
        straight, rel=Decimal("1e-20")
    )


def test_a_liquidation_price_unlike_the_venues_is_a_misread_tier() -> None:
    assert not disagree(Decimal("60100"), Decimal("60000"))
    assert disagree(Decimal("60121"), Decimal("60000"))
    assert disagree(None, Decimal("60000"))
    assert not disagree(None, None)


def test_tiers_must_end_at_infinity() -> None:
    with pytest.raises(ValueError, match="wanted Infinity"):
        liquidation_price(-1, Decimal(100), ENTRY, Decimal(1), BRACKETS[:1], Decimal(0))
