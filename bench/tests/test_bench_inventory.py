"""The price of inventory reaches the goals of its flows on few seeds, and the bound bounds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bench.inventory import (
    BUSY,
    FLOWS,
    LOT_USDT,
    LOTS,
    Busy,
    Flow,
    bound,
    compare,
    compare_busy,
    compare_engine,
    engine,
    hits,
    main,
)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_the_price_reaches_its_share_of_the_bound(flow: Flow) -> None:
    row = compare(flow, seeds=2)
    assert max(flow.goal, 0.9) <= row.share <= 1.0
    assert row.priced >= row.unpriced
    assert compare(flow, seeds=2) == row


@pytest.mark.parametrize("flow", BUSY, ids=lambda flow: flow.name)
def test_where_orders_are_scarce_the_price_earns_no_less_than_none(flow: Busy) -> None:
    none, _, both = compare_busy(flow, seeds=1)
    assert both >= none > 0


def test_the_bound_is_the_best_of_all_choices() -> None:
    edges, ways = np.array([3.0, -1.0, 2.0, 5.0, -2.0, 1.0]), np.array([1, -1, 1, 1, -1, -1])
    best = max(
        sum(edge for edge, taken in zip(edges, choice, strict=True) if taken)
        for choice in itertools.product((0, 1), repeat=len(edges))
        if all(abs(x) <= 1 for x in itertools.accumulate(w * t for w, t in zip(ways, choice, strict=True)))
    )
    assert bound(edges, ways, lots=1) == best


def test_nobody_earns_more_than_the_bound() -> None:
    edges, ways = hits(FLOWS[0], 7)
    assert engine(edges, ways, priced=True)[0] <= bound(edges, ways, lots=LOTS)


@pytest.mark.parametrize("flow", [flow for flow in FLOWS if flow.goal], ids=lambda flow: flow.name)
def test_the_engine_earns_on_its_first_hits_what_the_arithmetic_says_and_shows_it(flow: Flow) -> None:
    """Detector, gate, balances and simulated venues: an hour of a day."""
    own = compare_engine(flow, seeds=1, hours=1)
    edges, ways = hits(flow, 0)
    count = round(len(edges) / 24)
    earned = engine(edges[:count], ways[:count], priced=True)[0] * LOT_USDT / 1e4
    assert own.shown
    assert own.priced == pytest.approx(earned, rel=0.15)
    assert own.priced <= own.bound


@pytest.mark.campaign
@pytest.mark.parametrize("flow", [flow for flow in FLOWS if flow.goal], ids=lambda flow: flow.name)
def test_the_engine_reaches_its_share_of_the_bound_in_a_day(flow: Flow) -> None:
    own = compare_engine(flow, seeds=2)
    assert own.shown and flow.goal <= own.share <= 1.0


@pytest.mark.campaign
def test_the_goals_hold() -> None:
    assert main([]) == 0
