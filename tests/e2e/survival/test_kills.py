"""A bounded slice of the kill campaign (`arb kills`): seeds whose plans differ in what they hurt."""

from __future__ import annotations

import math

import pytest

from tests.command_line import assert_contract
from workers.kills.campaign import summed
from workers.kills.plan import plan
from workers.kills.run import STALE_MAX_MS, run_seed

pytestmark = pytest.mark.e2e

SECONDS = 8.0
SEEDS = (5, 12)  # short windows; those of production


RUNS = [
    pytest.param(SEEDS[0], math.inf, marks=pytest.mark.slice),
    pytest.param(SEEDS[1], STALE_MAX_MS, marks=pytest.mark.campaign),
]


@pytest.mark.parametrize(("seed", "stale_max_ms"), RUNS)
def test_after_kills_stops_and_faults_no_rule_is_broken(seed: int, stale_max_ms: float) -> None:
    """Of the slice nothing depends on how fast the host is; how old a book may be is for the campaign, and on the
    virtual clock for the chaos checker."""
    outcome = run_seed(seed, SECONDS, stale_max_ms=stale_max_ms)
    assert outcome.violations == [], outcome.rows()
    assert outcome.counts["fills"] > 0 and outcome.deaths.total() > 1
    assert_contract("kills", summed([outcome]))
    assert outcome.recovery_ms and not outcome.orphans


def test_the_same_seed_is_the_same_plan() -> None:
    for seed in SEEDS:
        assert plan(seed, SECONDS).lines() == plan(seed, SECONDS).lines() != plan(seed + 1, SECONDS).lines()
