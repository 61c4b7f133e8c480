"""`arb kills` plays every seed, whatever becomes of the others, each in a process of its own."""

from __future__ import annotations

import os
from collections import Counter
from functools import partial

import pytest

from tests.command_line import assert_contract
from workers.kills import run
from workers.kills.campaign import outcomes, summed
from workers.kills.run import Outcome, attempt


def own_process(seed: int) -> Outcome:
    return Outcome(seed, [], [], Counter({"pid": os.getpid()}))


def test_each_seed_has_a_process_of_its_own() -> None:
    found = list(outcomes(own_process, range(3), 1))
    assert sorted(one.seed for one in found) == [0, 1, 2]
    assert len({one.counts["pid"] for one in found} | {os.getpid()}) == 4


def test_a_process_that_dies_is_told_as_a_broken_run_of_every_seed_that_it_cost() -> None:
    found = sorted(outcomes(os._exit, range(5, 7), 1), key=lambda one: one.seed)
    assert [one.seed for one in found] == [5, 6] and all(one.plan for one in found)
    assert all(rule == "run" and text.startswith("BrokenProcessPool") for one in found for rule, text in one.violations)
    assert all(len(one.violations) == 1 for one in found)


@pytest.mark.parametrize("error", [KeyError("rows"), ZeroDivisionError("1/0"), OSError("no such process")])
def test_whatever_a_run_meets_makes_it_a_broken_run(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(*_: object, **__: object) -> Outcome:
        raise error

    monkeypatch.setattr(run, "run_seed", ends)
    outcome = partial(attempt, seconds=10.0, keep=None)(7)
    ((rule, text),) = outcome.violations
    assert rule == "run" and text.startswith(f"{type(error).__name__}: {error} (test_campaign.py:")
    assert outcome.seed == 7 and outcome.plan


def test_the_sums_of_a_campaign_are_those_of_its_seeds() -> None:
    first = Outcome(1, [], [], Counter(orders=2), Counter({"feed.mexc": 1, "executor": 2}), {"feed.mexc": [400.0]})
    second = Outcome(2, ["plan"], [("flat", "it is not")], Counter(orders=3), Counter({"executor": 1}), points=["sent"])
    second.recovery_ms = {"feed.gateio": [600.0], "executor": [float(number) for number in range(1, 101)]}
    first.points, second.orphans = ["sent", "judged"], 1
    found = summed([first, second])
    assert (found["kills"], found["points"], found["orphans"], found["orders"]) == (
        {"executor": 3, "feed.mexc": 1},
        2,
        1,
        5,
    )
    assert found["violations"] == [{"seed": 2, "invariant": "flat", "text": "it is not", "plan": ["plan"]}]
    assert found["recovery_ms"] == {
        "feed": {"p50": 400.0, "p99": 600.0, "max": 600.0, "n": 2},
        "detector": {"p50": None, "p99": None, "max": None, "n": 0},
        "executor": {"p50": 50.0, "p99": 99.0, "max": 100.0, "n": 100},
    }
    assert_contract("kills", found)
