"""The comparison of exit rules runs, repeats itself, and shows the rule ahead where a basis reverts."""

from __future__ import annotations

import pytest

from bench.economics import MARKETS, compare, main


def test_the_rule_earns_more_than_profit_above_zero_where_the_basis_reverts() -> None:
    row = compare(MARKETS[0], seeds=2, minutes=40 * 1440)
    assert row.better == 2
    assert row.rule.hedges > 0 and row.profit_above_zero.hedges > 0
    assert compare(MARKETS[0], seeds=2, minutes=40 * 1440) == row


@pytest.mark.campaign
def test_the_goals_hold_on_half_a_year_of_twenty_seeds() -> None:
    assert main([]) == 0
