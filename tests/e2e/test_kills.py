"""A bounded slice of the kill campaign (``campaign.py``): seeds whose plans differ in what they hurt."""

from __future__ import annotations

import pytest

from tests.campaigns.kills import plan, report, run_seed

pytestmark = pytest.mark.e2e

SECONDS = 8.0
SEEDS = (47, 58)


@pytest.mark.parametrize("seed", SEEDS)
def test_after_kills_stops_and_faults_the_venues_ledger_agrees(seed: int) -> None:
    outcome = run_seed(seed, SECONDS)
    assert outcome.violations == [], report(outcome)
    assert outcome.counts["FillRecord"] > 0
    assert outcome.counts["starts"] > 1


def test_the_same_seed_is_the_same_plan() -> None:
    for seed in SEEDS:
        first, second = plan(seed, SECONDS), plan(seed, SECONDS)
        assert [(step.at_s, step.what) for step in first] == [(step.at_s, step.what) for step in second]
