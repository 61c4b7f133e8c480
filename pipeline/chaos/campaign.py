"""Many schedules, one after the other; failures shrunk."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pipeline.chaos.crashes import pairs, points
from pipeline.chaos.directed import directed
from pipeline.chaos.runner import Verdict, run
from pipeline.chaos.schedule import Schedule, draw
from pipeline.chaos.shrink import shrink

FAILURES_MAX = 20  # reported in full


def random_schedules(count: int, seed: int) -> Iterator[Schedule]:
    """``count`` schedules from ``seed`` on."""
    return (draw(number) for number in range(seed, seed + count))


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


def campaign(schedules: Iterable[Schedule], say: Callable[[str], None]) -> dict[str, Any]:
    """Runs and judges every schedule. JSON-ready: counts, one digest of all traces, and each failure with its seed and
    the smallest schedule that shows it."""
    digest, counts = hashlib.sha256(), Counter[str]()
    failures: list[dict[str, Any]] = []
    number = 0
    for schedule in schedules:
        verdict = run(schedule)
        number += 1
        digest.update(verdict.digest.encode())
        counts.update(verdict.counts)
        if verdict.violations:
            counts["broken"] += 1
            say(f"seed {schedule.seed} {schedule.name}: {verdict.violations[0].rule}: {verdict.violations[0].text}")
            if len(failures) < FAILURES_MAX:
                failures.append(_shrunk(verdict))
    return {
        "schedules": number,
        "broken": counts["broken"],
        "digest": digest.hexdigest(),
        "orders": counts["OrderIntentRecord"],
        "fills": counts["FillRecord"],
        "operations": counts["OperationRecord"],
        "lives": counts["BootRecord"],
        "recoveries": counts["RecoveryRecord"],
        "failures": failures,
    }


def _shrunk(verdict: Verdict) -> dict[str, Any]:
    rule = verdict.violations[0].rule

    def breaks(schedule: Schedule) -> bool:
        found = run(schedule, first=True).violations
        return bool(found) and found[0].rule == rule

    smallest = shrink(verdict.schedule, breaks)
    return {**verdict.report(), "shrunk": smallest.text()}
