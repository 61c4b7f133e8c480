"""A margin storm of 60 % in 60 s in real processes, judged by the venues' own ledger: nothing is liquidated."""

from __future__ import annotations

import pytest

from tests.campaigns.storms import run_seed

pytestmark = [pytest.mark.e2e, pytest.mark.campaign]


def test_no_contract_is_liquidated_and_money_agrees() -> None:
    text, good = run_seed(1)
    assert good, text
