"""The comparison of exit rules runs, repeats itself, and shows the rule ahead where a basis reverts."""

from __future__ import annotations

import pytest

from bench.economics import MARKETS, compare, leaves_by_bbgo, main


def test_the_rule_earns_more_than_profit_above_zero_where_the_basis_reverts() -> None:
    row = compare(MARKETS[0], seeds=2, minutes=40 * 1440)
    assert row.better == 2
    assert row.better_than_bbgo == 2
    assert row.rule.hedges > 0 and row.profit_above_zero.hedges > 0 and row.bbgo.hedges > 0
    assert compare(MARKETS[0], seeds=2, minutes=40 * 1440) == row


@pytest.mark.parametrize(
    ("changed", "leaves"),
    [
        ({}, True),
        ({"rate": 0.5}, False),  # not flipped
        ({"age_min": 2881}, False),  # between two looks
        ({"stamps": 0}, False),  # in the first interval
        ({"rate": -0.1, "entry_rate": 5.0}, True),  # moved far: whatever was earned
        ({"rate": -0.1, "entry_rate": 2.0, "stamps": 9}, False),  # the fees are not in by now
        ({"rate": -0.1, "entry_rate": 2.0, "stamps": 10}, True),
        ({"age_min": 600, "value": -1.0}, False),  # young, and at a loss
        ({"age_min": 600, "value": 1.0}, True),
        ({"age_min": 600, "value": -301.0}, True),
    ],
)
def test_bbgos_exits_are_those_of_its_source(changed: dict[str, float], leaves: bool) -> None:
    case = {
        "age_min": 2880,
        "stamps": 20,
        "rate": -1.0,
        "entry_rate": 1.0,
        "value": -1.0,
        "round_trip": 20.0,
        **changed,
    }
    assert leaves_by_bbgo(**case) is leaves


@pytest.mark.campaign
def test_the_goals_hold_on_half_a_year_of_twenty_seeds() -> None:
    assert main([]) == 0
