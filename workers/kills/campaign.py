"""Many seeds, several instances side by side."""

from __future__ import annotations

import math
import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

from workers.kills.run import Outcome, attempt, unplayed

SECONDS = 10.0  # of trouble in each run
RECOVERS = ("feed", "detector", "executor")  # kinds of process whose recovery is always shown


def campaign(count: int, seed: int, jobs: int, keep: Path | None, say: Callable[[str], None]) -> dict[str, Any]:
    """Seeds ``seed`` to ``seed + count - 1``, ``jobs`` at a time; :func:`summed`, for JSON.

    ``keep``: folder for the tapes of the broken ones."""
    found: list[Outcome] = []
    for outcome in outcomes(partial(attempt, seconds=SECONDS, keep=keep), range(seed, seed + count), jobs):
        say(_line(outcome))
        found.append(outcome)
    return summed(sorted(found, key=lambda one: one.seed))


def summed(found: Sequence[Outcome]) -> dict[str, Any]:
    """``kills``: deaths by process; ``points``: how many named points were reached; ``violations``, each with its seed
    and plan; ``recovery_ms``: from an end to READY by kind of process; ``orphans``: processes that outlived their
    instance; and what happened besides, counted."""
    kills, counts = Counter[str](), Counter[str]()
    times: dict[str, list[float]] = {kind: [] for kind in RECOVERS}
    for outcome in found:
        kills.update(outcome.deaths)
        counts.update(outcome.counts)
        for process, values in outcome.recovery_ms.items():
            times.setdefault(process.partition(".")[0], []).extend(values)
    return {
        "runs": len(found),
        "kills": {process: number for process, number in sorted(kills.items()) if number},
        "points": len({point for outcome in found for point in outcome.points}),
        "violations": [row for outcome in found for row in outcome.rows()],
        "recovery_ms": {kind: _percentiles(values) for kind, values in times.items()},
        "orphans": sum(outcome.orphans for outcome in found),
        **dict(sorted(counts.items())),
    }


def _percentiles(values: Sequence[float]) -> dict[str, float | int | None]:
    """p50, p99 and max by the nearest rank; None where nothing was measured."""
    ranked = sorted(values)
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    ranks = {name: ranked[max(0, math.ceil(share * len(ranked)) - 1)] if ranked else None for name, share in at.items()}
    return {**ranks, "n": len(ranked)}


def outcomes(play: Callable[[int], Outcome], seeds: range, jobs: int) -> Iterator[Outcome]:
    """As they end. Each process that plays a seed is begun anew: an instance's parent must not have forked threads.

    A process that was killed takes the seeds that are still to be played with it: each is a broken run that says so."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
        seed_of = {pool.submit(play, seed): seed for seed in seeds}
        for done in as_completed(seed_of):
            try:
                yield done.result()
            except BrokenProcessPool as error:
                yield unplayed(seed_of[done], SECONDS, error)


def _line(outcome: Outcome) -> str:
    said = "; ".join(f"{rule}: {text[:300]}" for rule, text in outcome.violations[:3]) or "no rule broken"
    return f"seed {outcome.seed}: {outcome.deaths.total()} deaths, {outcome.counts['orders']} orders; {said}"
