"""Deaths of the process at every step of directed schedules: before each record, order, question and alert, and, as the
journals are files here, inside each record, rotation, checkpoint and removal of a segment. Deaths of the guard while it
stands in, and of the executor that takes its journal over. Pairs: the second death in the recovery from the first."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from pipeline.chaos.directed import CRASHED, TAKEN_OVER, directed
from pipeline.chaos.runner import follow, world_of
from pipeline.chaos.schedule import Schedule, Step

FROM_MS = 490  # the directed schedules begin to trade at 500
UNTIL_MS = 1_900
START_STEPS = 60  # of a start and its first sweeps: beyond them nothing is left of the death before
GUARD, AFTER_GUARD = "deaths", "deaths_after"  # fields of a takeover: whose deaths


def _filed(name: str) -> Schedule:
    return replace(directed()[name], files=True)


def _with(schedule: Schedule, more: list[Step], name: str = "") -> Schedule:
    steps = sorted([*schedule.steps, *more], key=lambda step: step["at_ms"])
    return replace(schedule, steps=tuple(steps), name=name)


def dying(name: str, *after: int) -> Schedule:
    """The directed schedule with a death at that step behind ``FROM_MS``; more numbers: of the lives that follow."""
    crashes: list[Step] = [{"at_ms": FROM_MS, "do": "crash", "after": number} for number in after]
    return _with(_filed(name), crashes, f"{name}, dies at {' and '.join(map(str, after))}")


def taken_over(name: str, whose: str, *after: int) -> Schedule:
    """The directed schedule in which the guard's lives die at these steps, or those of the executor behind them."""
    schedule = _filed(name)
    steps = [{**step, whose: list(after)} if step["do"] == "takeover" else step for step in schedule.steps]
    who = "the guard" if whose == GUARD else "the executor behind it"
    return replace(schedule, steps=tuple(steps), name=f"{name}, {who} dies at {' and '.join(map(str, after))}")


@cache
def sizes() -> dict[tuple[str, str], int]:
    """Steps on which deaths are enumerated, by directed schedule and whose deaths they are ("": the executor's in the
    time of the schedule)."""
    found: dict[tuple[str, str], int] = {}
    marks: list[Step] = [{"at_ms": FROM_MS, "do": "count"}, {"at_ms": UNTIL_MS, "do": "count"}]
    for name in CRASHED:
        schedule = _with(_filed(name), marks)
        with world_of(schedule, lambda row: None) as world:
            follow(schedule, world)
            begin, end = world.counted
            found[name, ""] = end - begin
    for name in TAKEN_OVER:
        schedule = _filed(name)
        with world_of(schedule, lambda row: None) as world:
            follow(schedule, world)
            world.run(schedule.steps[-1]["for_ms"] + UNTIL_MS)
            _, guard, after = world.life_began
            found[name, GUARD] = after - guard
            found[name, AFTER_GUARD] = min(START_STEPS, world.actions_done - after)
    return found


def _death(name: str, whose: str, *after: int) -> Schedule:
    return taken_over(name, whose, *after) if whose else dying(name, *after)


def points() -> list[Schedule]:
    """Every single death."""
    return [_death(name, whose, number) for (name, whose), size in sizes().items() for number in range(size)]


def pairs(count: int, seed: int) -> Iterator[Schedule]:
    """``count`` pairs, drawn from ``seed``: a death at any step, another one in the recovery from it."""
    rng, known = random.Random(f"{seed}:pairs"), sizes()
    for _ in range(count):
        name, whose = rng.choice(list(known))
        yield _death(name, whose, rng.randrange(known[name, whose]), rng.randrange(START_STEPS))
