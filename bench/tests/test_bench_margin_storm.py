"""Margin storms on virtual time: a slice of each row of the bench, within what its 200 seeds may have."""

from __future__ import annotations

import pytest

from bench.margin_storm import ROWS, main


@pytest.mark.campaign
@pytest.mark.parametrize("row", ROWS)
def test_no_more_are_liquidated_than_may_be(row: str) -> None:
    assert main(["--seeds", "3", "--row", row]) == 0
