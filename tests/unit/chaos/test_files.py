"""Deaths inside a record, a rotation, a checkpoint, a start: where they come, and that what breaks there is seen."""

from __future__ import annotations

import pytest

from pipeline.chaos.crashes import AFTER_GUARD, GUARD, dying, points, taken_over
from pipeline.chaos.filed_world import FiledWorld
from pipeline.chaos.files import HALF_CHECKPOINT, RECORD, REMOVAL
from pipeline.chaos.runner import follow, run, world_of
from pipeline.chaos.schedule import Schedule
from pipeline.execution.journal import guard_journal
from pipeline.execution.settled.checkpoint import Recovered

PLACES = {RECORD, "rotating", "rotated", HALF_CHECKPOINT, "checkpointing", "checkpointed", REMOVAL}


def died_at(schedule: Schedule) -> tuple[list[str], int, int]:
    """Places of the deaths, torn records that starts have cut off, lives."""
    with world_of(schedule, lambda row: None) as world:
        assert isinstance(world, FiledWorld)
        follow(schedule, world)
        world.run(4_000)
        return world.files.died_at, world.files.torn, world.lives


def test_a_death_inside_a_record_leaves_half_of_it_for_the_start() -> None:
    found = [died_at(dying("entry", number)) for number in range(8)]
    assert {torn for places, torn, _ in found if places == [RECORD]} == {1}
    assert all(lives == 2 for _, _, lives in found)
    assert any(not places for places, _, _ in found), "a death between records is no death inside one"


@pytest.mark.campaign
def test_deaths_come_at_every_kind_of_place() -> None:
    scenes = ("hedge,", "the guard closes a hedge, the executor")
    missing = set(PLACES)
    for schedule in [one for one in points() if one.name.startswith(scenes)]:
        missing -= set(died_at(schedule)[0])
    assert not missing


def test_the_guard_and_the_executor_behind_it_die_where_they_are_to() -> None:
    assert died_at(taken_over("the guard closes a hedge", GUARD, 5))[2] == 4
    places, _, lives = died_at(taken_over("the guard closes a hedge", AFTER_GUARD, 2))
    assert places == [RECORD] and lives == 4, "it dies while it appends what the guard has written"


@pytest.mark.parametrize("number", [4, 31])
def test_a_death_inside_a_step_breaks_no_rule(number: int) -> None:
    assert not run(dying("hedge", number)).violations
    assert not run(taken_over("the guard closes a hedge", GUARD, number)).violations
    assert not run(taken_over("the guard closes a hedge", AFTER_GUARD, number // 4)).violations


def test_the_same_death_gives_the_same_trace() -> None:
    assert run(dying("entry", 20)).digest == run(dying("entry", 20)).digest != run(dying("entry", 30)).digest


def test_a_start_that_forgets_what_is_behind_its_checkpoint_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recovered, "fold", lambda self, entry: None)
    assert run(dying("entry", 20), first=True).violations[0].rule == "replay"


def test_a_fold_of_the_guards_journal_that_begins_anew_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a death has cut off goes on where it was, and not from the first record."""
    missing = guard_journal.missing
    half_folded = taken_over("the guard closes a hedge", AFTER_GUARD, 4)
    assert not run(half_folded).violations

    def all_of_it(own, guard):  # type: ignore[no-untyped-def]
        return guard_journal._block(guard)[1] if missing(own, guard) else []

    monkeypatch.setattr(guard_journal, "missing", all_of_it)
    assert run(half_folded, first=True).violations[0].rule == "replay"
