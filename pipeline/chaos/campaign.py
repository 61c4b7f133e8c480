"""Many schedules, one after the other; failures shrunk."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from typing import Any

from pipeline.chaos.crashes import pairs, points
from pipeline.chaos.directed import directed
from pipeline.chaos.runner import Verdict, run
from pipeline.chaos.schedule import Schedule, draw
from pipeline.chaos.shrink import shrink

SHRUNK_MAX = 20  # schedules that are shrunk: each costs up to a hundred runs
AGAIN_EVERY = 100  # the first schedule and every so many are played twice


def random_schedules(seeds: range) -> Iterator[Schedule]:
    """One of each seed."""
    return (draw(number) for number in seeds)


def crash_schedules(count: int, seed: int) -> Iterator[Schedule]:
    """``count`` of all enumerated deaths, evenly; more than there are: pairs for the rest. -1: all, and 500 pairs."""
    every = points()
    if count < 0:
        return itertools.chain(every, pairs(500, seed))
    single = min(count, len(every))
    chosen = [every[number * len(every) // single] for number in range(single)]
    return itertools.chain(chosen, pairs(count - single, seed))


def directed_schedules() -> Iterator[Schedule]:
    """All of them."""
    return iter(directed().values())


def campaign(schedules: Iterable[Schedule], deaths: Iterable[Schedule], say: Callable[[str], None]) -> dict[str, Any]:
    """Runs and judges every schedule, and then ``deaths``, which are enumerated. JSON-ready: counts, one digest of all
    traces, whether those that were played again were the same, and each violation with its seed and the smallest
    schedule that shows it."""
    digest, counts = hashlib.sha256(), Counter[str]()
    violations: list[dict[str, Any]] = []
    equal, number, shrunk, crash_points = True, 0, 0, 0
    for schedule, is_death in itertools.chain(zip(schedules, repeat(False)), zip(deaths, repeat(True))):
        verdict = run(schedule)
        if number % AGAIN_EVERY == 0 and run(schedule).digest != verdict.digest:
            equal = False
            say(f"seed {schedule.seed} {schedule.name}: played again it has another trace")
        number += 1
        crash_points += is_death
        digest.update(verdict.digest.encode())
        counts.update(verdict.counts)
        if verdict.violations:
            say(f"seed {schedule.seed} {schedule.name}: {verdict.violations[0].rule}: {verdict.violations[0].text}")
            violations += verdict.rows(_shrunk(verdict) if shrunk < SHRUNK_MAX else "")
            shrunk += 1
    return {
        "schedules": number,
        "events": sum(counts.values()),
        "violations": violations,
        "trace_equal": equal,
        "crash_points": crash_points,
        "digest": digest.hexdigest(),
        "orders": counts["OrderIntentRecord"],
        "fills": counts["FillRecord"],
        "operations": counts["OperationRecord"],
        "lives": counts["BootRecord"],
        "recoveries": counts["RecoveryRecord"],
    }


def _shrunk(verdict: Verdict) -> str:
    rule = verdict.violations[0].rule

    def breaks(schedule: Schedule) -> bool:
        found = run(schedule, first=True).violations
        return bool(found) and found[0].rule == rule

    return shrink(verdict.schedule, breaks).text()
