"""Runs a schedule and has its tape judged."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.chaos.checker.finding import Violation
from pipeline.chaos.checker.judge import Judge
from pipeline.chaos.filed_world import FiledWorld
from pipeline.chaos.schedule import Schedule
from pipeline.chaos.tape import Row, digest_text
from pipeline.chaos.world import ChaosWorld
from pipeline.model.errors import JournalError, ProtocolViolation
from pipeline.sim.exchange.faults import BadFault
from pipeline.sim.exchange.latency import NS_PER_MS

ROWS_MAX = 30_000  # a usual run has about a thousand
TAIL_MS = 3_000  # from the last step to the end of all faults


@dataclass(slots=True)
class Verdict:
    """``digest``: of the whole tape; ``counts``: what happened; ``violations``: empty for a good run."""

    schedule: Schedule
    digest: str
    violations: list[Violation]
    counts: Counter[str] = field(default_factory=Counter)

    def rows(self, shrunk: str) -> list[dict[str, Any]]:
        """The violations, JSON-ready; ``shrunk``: the smallest schedule that shows the first of them, "" = unknown."""
        of_schedule = {"name": self.schedule.name, "schedule": self.schedule.text(), "shrunk": shrunk}
        return [{"seed": self.schedule.seed, **one.fields(), **of_schedule} for one in self.violations]


class Broken(Exception):
    """The run need not go on: a rule was broken."""


@contextlib.contextmanager
def world_of(schedule: Schedule, on_row: Callable[[Row], None]) -> Iterator[ChaosWorld]:
    """The world that a schedule is for."""
    if not schedule.files:
        yield ChaosWorld(schedule, on_row)
        return
    with tempfile.TemporaryDirectory(prefix="arb-chaos-") as folder:
        world = FiledWorld(schedule, on_row, Path(folder))
        try:
            yield world
        finally:
            world.files.close()


def play(schedule: Schedule, on_row: Callable[[Row], None]) -> None:
    """Plays a schedule: its faults, their end, rest, and opportunities that must be taken after it."""
    with world_of(schedule, on_row) as world:
        follow(schedule, world)
        world.run(TAIL_MS)
        world.heal()
        rested = world.settle()
        world.end(rested=rested, planted=world.plant())


def follow(schedule: Schedule, world: ChaosWorld) -> None:
    """Opens the world and does every step of the schedule."""
    world.begin()
    began_ns = world.clock.mono_ns()
    for step in schedule.steps:
        wait_ns = began_ns + step["at_ms"] * NS_PER_MS - world.clock.mono_ns()
        if wait_ns > 0:
            world.run(wait_ns / NS_PER_MS)
        world.note("step", do=step["do"])
        try:
            world.carry_out(step)
        except BadFault as refusal:  # the venue has nothing to do it to (no position)
            world.note("act", act="refused", text=str(refusal))


def run(schedule: Schedule, *, first: bool = False) -> Verdict:
    """Plays a schedule and judges each row as it comes; ``first``: no further than the first broken rule."""
    digest, counts, judge = hashlib.sha256(), Counter[str](), Judge()

    def on_row(row: Row) -> None:
        digest.update(digest_text(row).encode())
        counts[row["record"] if row["kind"] == "record" else row["kind"]] += 1
        judge.look(row)
        if row["seq"] > ROWS_MAX:
            judge.find("alive", "the run does not end: too many rows")
            raise Broken
        if first and judge.violations:
            raise Broken

    try:
        play(schedule, on_row)
    except Broken:
        pass
    except JournalError as error:
        judge.find("replay", f"a journal cannot be read or written: {error}")
    except ProtocolViolation as error:
        judge.find("wire", f"what the venue says is not understood: {error}")
    return Verdict(schedule, digest.hexdigest(), judge.violations, counts)
