"""Every planted bug is seen by the checker, in a bounded number of schedules."""

from __future__ import annotations

import pytest

from pipeline.chaos.directed import directed
from pipeline.chaos.runner import run
from tests.planted.__main__ import seen
from tests.planted.engine_bugs import MUTANTS, planted


@pytest.mark.campaign
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_bug_is_seen(name: str) -> None:
    assert seen(name)


def test_a_repair_that_is_put_off_is_seen_at_its_moment() -> None:
    with planted("repairs are put off"):
        found = run(directed()["broken leg"])
    assert {one.rule for one in found.violations} == {"naked"}


def test_at_least_forty_bugs_are_planted_and_each_is_taken_out_again() -> None:
    assert len(MUTANTS) >= 40
    for name, patches in MUTANTS.items():
        before = [owner.__dict__[attribute] for owner, attribute, _ in patches]
        with planted(name):
            now = [owner.__dict__[attribute] for owner, attribute, _ in patches]
            assert all(new is not old for new, old in zip(now, before, strict=True))
        assert [owner.__dict__[attribute] for owner, attribute, _ in patches] == before
