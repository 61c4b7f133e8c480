"""A margin storm of 60 % in 60 s in real processes, judged by the venues' own ledger: contracts are cut, none is
liquidated."""

from __future__ import annotations

import pytest

from tests.campaigns.storms import ROWS, run_seed

pytestmark = [pytest.mark.e2e, pytest.mark.campaign]


@pytest.mark.parametrize("row", ROWS)
def test_contracts_are_cut_and_none_is_liquidated_and_money_agrees(row: str) -> None:
    text, good = run_seed(1, row)
    assert good, text
