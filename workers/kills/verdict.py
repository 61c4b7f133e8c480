"""The last line of a long measurement, and the end of one that is cut: what was found until then is said as well."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FrameType


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal: ``found`` in words ("" = nothing was seen of it), and whether that meets it."""

    name: str
    met: bool
    found: str


def verdict(what: str, goals: Sequence[Goal], *, cut: bool = False) -> str:
    """One plain line: what is missed, what was not seen, what is met, each with its figure."""
    missed = [f"{goal.name} ({goal.found})" for goal in goals if goal.found and not goal.met]
    unseen = [goal.name for goal in goals if not goal.found]
    met = [f"{goal.name} ({goal.found})" for goal in goals if goal.found and goal.met]
    parts = [("missed", missed), ("not seen", unseen), ("met", met)]
    counts = "cut, " * cut + f"{len(met)} of {len(goals)} goals met"
    return f"VERDICT {what}: {counts}; " + "; ".join(f"{word}: {', '.join(found) or 'none'}" for word, found in parts)


def all_met(goals: Sequence[Goal]) -> bool:
    """Whether every goal was seen and met."""
    return all(goal.found and goal.met for goal in goals)


@contextlib.contextmanager
def cut_by_sigterm() -> Iterator[None]:
    """SIGTERM is to this process what Ctrl-C is: whoever limits its time still gets what was found."""

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
