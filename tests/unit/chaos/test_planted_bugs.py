"""Every planted bug is seen by the checker, in a bounded number of schedules."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.chaos.directed import directed
from pipeline.chaos.runner import run
from pipeline.chaos.schedule import Schedule, draw
from tests.planted.engine_bugs import MUTANTS, planted

SEEDS = 40  # random schedules behind the directed ones, at most
#: Where a bug is seen first, to save the search; any other schedule may show it as well.
HINTS: dict[str, str | int] = {
    "funding is not booked": 18,
    "exposure is not counted": 10,
    "limits are ignored": 10,
    "the order rate is not counted": 8,
    "breakers are ignored": 5,
    "fees are ignored": 5,
    "a drained venue is traded": 4,
    "a closed hedge stays open": 9,
    "an exit may open the hedge's opposite": 1665,
    "an execution that is listed late is money that is gone": 71,
    "an execution that is listed late is a position of others": 713,
    "what was closed before its fill was known is kept": 335,
    "a wallet is compared without what is open": 375,
    "repairs are put off": "broken leg",
    "a codec reads no fee": 6,
    "a codec orders twice the contracts": 6,
}


def schedules(name: str) -> Iterator[Schedule]:
    hint = HINTS.get(name)
    if hint is not None:
        yield draw(hint) if isinstance(hint, int) else directed()[hint]
    yield from directed().values()
    yield from (draw(seed) for seed in range(SEEDS))


def seen(name: str) -> bool:
    for schedule in schedules(name):
        with planted(name):
            if run(schedule, first=True).violations:
                return True
    return False


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
