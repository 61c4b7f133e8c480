"""Many seeds, several instances side by side."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

from workers.kills.run import Outcome, attempt, unplayed

SECONDS = 10.0  # of trouble in each run


def campaign(runs: int, seed: int, jobs: int, keep: Path | None, say: Callable[[str], None]) -> dict[str, Any]:
    """Seeds ``seed`` to ``seed + runs - 1``, ``jobs`` at a time. JSON-ready: sums, and every broken run with its plan.

    ``keep``: folder for the tapes of the broken ones."""
    counts, failures = Counter[str](), []
    for outcome in outcomes(partial(attempt, seconds=SECONDS, keep=keep), range(seed, seed + runs), jobs):
        counts.update(outcome.counts)
        say(_line(outcome))
        if outcome.violations:
            failures.append(outcome.fields())
    failures.sort(key=lambda row: int(row["seed"]))
    return {"runs": runs, "broken": len(failures), **dict(sorted(counts.items())), "failures": failures}


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
    return f"seed {outcome.seed}: {outcome.counts['deaths']} deaths, {outcome.counts['orders']} orders; {said}"
