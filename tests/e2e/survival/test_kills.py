"""A bounded slice of the kill campaign (`arb kills`): seeds whose plans differ in what they hurt."""

from __future__ import annotations

import pytest

from tests.campaigns.kills import SLOW
from tests.command_line import assert_contract
from workers.kills.campaign import summed
from workers.kills.plan import PROFILE, Plan, Step, plan
from workers.kills.rig import BrokenInstance, until
from workers.kills.run import run_seed

pytestmark = pytest.mark.e2e

SECONDS = 8.0
SEEDS = (5, 12)  # short windows; those of production


RUNS = [
    pytest.param(SEEDS[0], SLOW, marks=pytest.mark.slice),
    pytest.param(SEEDS[1], 1, marks=pytest.mark.campaign),
]


@pytest.mark.parametrize(("seed", "slow"), RUNS)
def test_after_kills_stops_and_faults_no_rule_is_broken(seed: int, slow: int) -> None:
    """Of the slice nothing depends on how fast the host is; how old a book may be is for the campaign, and on the
    virtual clock for the chaos checker."""
    outcome = run_seed(seed, SECONDS, slow=slow)
    assert outcome.violations == [], outcome.rows()
    assert outcome.counts["fills"] > 0 and outcome.deaths.total() > 1
    assert_contract("kills", summed([outcome]))
    assert outcome.recovery_ms and not outcome.orphans


@pytest.mark.slice
def test_deaths_inside_the_one_call_of_an_entry_break_no_rule() -> None:
    """Between the journal's record and the first send, and between both sends, of two lives: the venues' ledgers say
    what had left."""

    def both(rig: BrokenInstance) -> None:
        until(lambda: rig.watch.deaths["executor"] >= 2, "a death of either kind")

    made = Plan(3, "launch_second:2;launch_first:1,life=2", dict(PROFILE), [Step(0.0, "wait for both", both)])
    outcome = run_seed(3, 1.0, slow=SLOW, made=made)
    assert outcome.violations == [], outcome.rows()
    assert outcome.points == ["launch_second", "launch_first"] and outcome.deaths["executor"] >= 2
    assert outcome.counts["fills"] > 0 and outcome.counts["planted"]


def test_the_same_seed_is_the_same_plan() -> None:
    for seed in SEEDS:
        assert plan(seed, SECONDS).lines() == plan(seed, SECONDS).lines() != plan(seed + 1, SECONDS).lines()
