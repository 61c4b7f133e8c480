"""One seed from the first process to the verdict: the checker of `arb chaos` over the venues' ledger and both journals,
and what only real books and processes can break."""

from __future__ import annotations

import contextlib
import math
import random
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.chaos.checker.judge import Judge
from pipeline.chaos.recorded import recorded_tape
from pipeline.chaos.tape import digest_text
from pipeline.execution.crash_points import MARKS, VARIABLE
from pipeline.execution.external_records import ExternalFillRecord, ExternalFlowRecord, ExternalPositionRecord
from pipeline.execution.journal import JournalEntry
from pipeline.execution.records import BreakerRecord, ExternalRecord, FillRecord, StopRecord
from pipeline.model.config_load import load_config
from workers.control_plane.launch import LaunchError
from workers.demo.run_checker import check_collar, check_double_entry, check_fresh, check_published, until_stop
from workers.demo.summary import plain_journal
from workers.kills.plan import Plan, plan
from workers.kills.rig import DRAIN_S, BrokenInstance, NeverCame, until

STALE_MAX_MS = 900.0  # lateness that a feed tolerates (500), age limit (100), one publication, scheduling of 2 CPUs
ENDING_S = 3.0  # the kernel ends what is left below a supervisor that has ended
COLLAR_BPS = Decimal(250)  # unwind_max_slippage_bps, and what a book may move in a flight
#: Breakers that venues may trip here, or legs that stood alone while everybody died; any other: we lost track.
EXPECTED_BREAKERS = ("venue.", "naked_exposure")


@dataclass
class Outcome:
    """What became of a seed. ``violations``: (invariant, text); ``deaths``: by process; ``recovery_ms``: of each
    process that was READY again; ``points``: named points that were reached; ``orphans``: processes that are left."""

    seed: int
    plan: list[str]
    violations: list[tuple[str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)
    recovery_ms: dict[str, list[float]] = field(default_factory=dict)
    points: list[str] = field(default_factory=list)
    orphans: int = 0

    def rows(self) -> list[dict[str, Any]]:
        """The violations, JSON-ready, each with what the seed does."""
        return [
            {"seed": self.seed, "invariant": invariant, "text": text, "plan": self.plan}
            for invariant, text in self.violations
        ]


def run_seed(
    seed: int,
    seconds: float,
    *,
    keep: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
    slow: int = 1,
    made: Plan | None = None,
) -> Outcome:
    """One seed. ``slow``: how much slower than two quiet cores the host may be; above 1 the rule is left out that goes
    by nothing but its clock: for how long a book that an order names may have been outdated. ``made``: another plan
    than the seed's. Raises ArbitrageEngineError and OSError where the run could not go on."""
    made = made or plan(seed, seconds)
    outcome = Outcome(seed, made.lines())
    marks = tempfile.NamedTemporaryFile("r", prefix="arb-kills-", encoding="ascii")  # noqa: SIM115  closed at the end
    rig = BrokenInstance(
        f"k{seed}-{random.SystemRandom().randrange(16**6):06x}",
        seed=seed,
        environment={VARIABLE: made.crash_at, MARKS: marks.name},
        **made.config,
    )
    try:
        _start(rig)
        _play(rig, made, seconds, say)
        rig.heal()
        rig.wake()
        if rig.engine.alive():  # the next processes live
            rig.kill_instance()
        rig.start_again()
        if rig.reading()["halted"]:
            outcome.counts["halted"] += 1
            rig.resume()
        _back_to_work(rig, outcome)
        rig.end()
        outcome.deaths, outcome.recovery_ms = rig.watch.deaths, rig.watch.recovery_ms
        outcome.points = marks.read().split()
        with contextlib.suppress(NeverCame):
            until(lambda: not rig.watch.left(), "the end of every process", ENDING_S)
        left = rig.watch.left()
        outcome.orphans = len(left)
        if left:
            outcome.violations.append(("orphans", f"processes {left} run on after the stop of their instance"))
        _judge(rig, outcome, keep, slow)
    finally:
        rig.close()
        marks.close()
    return outcome


def _start(rig: BrokenInstance) -> None:
    """READY, or dead at a point of the start: then it is started again."""
    try:
        rig.start()
    except LaunchError:
        if rig.engine.alive():
            raise
        rig.watch.deaths["supervisor"] += 1
        rig.start_again()


def _play(rig: BrokenInstance, made: Plan, seconds: float, say: Callable[[str], None]) -> None:
    began = time.monotonic()
    for step in made.steps:
        time.sleep(max(0.0, began + step.at_s - time.monotonic()))
        say(f"seed {made.seed}: {time.monotonic() - began:5.1f} s {step.what}")
        if not rig.engine.alive():  # the supervisor's point
            rig.watch.deaths["supervisor"] += 1
            rig.start_again()
        step.do(rig)
    time.sleep(max(0.0, began + seconds - time.monotonic()))


def _back_to_work(rig: BrokenInstance, outcome: Outcome) -> None:
    """Everything READY, and an opportunity taken, after the faults have ended."""

    def ready() -> bool:
        if rig.engine.alive() and rig.reading()["halted"]:  # by a guard that took over from a slow executor
            outcome.counts["halted"] += 1
            rig.resume()
        return rig.all_ready()

    until(ready, "every process READY after the faults")
    for name, reason in rig.breakers().items():
        outcome.counts[f"breaker {name}"] += 1
        if not name.startswith(EXPECTED_BREAKERS):
            outcome.violations.append(("alive", f"breaker {name} tripped: {reason}"))
        rig.rearm(name)
    before = rig.counter("entries")
    with contextlib.suppress(NeverCame):
        until(lambda: rig.counter("entries") > before, "an operation after the faults", DRAIN_S)
        outcome.counts["planted"] = 1
        until(lambda: any(isinstance(entry.record, FillRecord) for entry in rig.entries()), "a fill in any life")


def _judge(rig: BrokenInstance, outcome: Outcome, keep: Path | None, slow: int) -> None:
    """``keep``: folder for the tape of a broken run, a row a line."""
    ledger, entries = rig.ledger(), rig.entries()
    journal, versions = plain_journal(entries), rig.simulator.control("/versions")["rows"]
    venues = until_stop(ledger, journal)
    stopped = isinstance(entries[-1].record, StopRecord) and not entries[-1].record.open_orders
    ending = {
        "rested": stopped,
        "idle": stopped,
        "ready": True,
        "planted": bool(outcome.counts["planted"]),
        "waiting": [],
        "refused": [] if outcome.counts["planted"] else [str(rig.reading()["opportunities"])],
    }
    tape = recorded_tape(load_config(rig.engine.config_path), venues, entries, rig.acts, ending, slow)
    judge = Judge()
    for row in tape:
        judge.look(row)
    outcome.violations += [(one.rule, one.text) for one in judge.violations]
    others = [*check_double_entry(venues), *check_published(journal, versions)]
    others += check_fresh(journal, versions, STALE_MAX_MS if slow == 1 else math.inf)
    others += check_collar(venues, versions, COLLAR_BPS)
    outcome.violations += [(one["invariant"], one["text"]) for one in others]
    _count(entries, outcome)
    if outcome.violations and keep is not None:
        path = keep / f"seed-{outcome.seed}.jsonl"
        path.write_text("".join(f"{digest_text(row)}\n" for row in tape), encoding="utf-8")


def _count(entries: list[JournalEntry], outcome: Outcome) -> None:
    names = {"OperationRecord": "operations", "OrderIntentRecord": "orders", "FillRecord": "fills"}
    names |= {"TakeoverRecord": "takeovers", "BootRecord": "lives", "RecoveryRecord": "recoveries"}
    if any(entry.boot_epoch == 0 for entry in entries):
        outcome.violations.append(("ids", "a journal record without its run's epoch"))
    for entry in entries:
        record = entry.record
        if isinstance(record, (ExternalRecord, ExternalFillRecord, ExternalFlowRecord, ExternalPositionRecord)):
            outcome.violations.append(("external", f"nobody else moved anything: {record}"))
        elif isinstance(record, BreakerRecord) and record.tripped:
            outcome.counts[f"tripped {record.name}"] += 1
        name = names.get(type(record).__name__)
        if name:
            outcome.counts[name] += 1


def attempt(seed: int, seconds: float, keep: Path | None, slow: int = 1) -> Outcome:
    """As :func:`run_seed`; a run that could not go on, whatever it met, is a broken one: the other seeds are played."""
    try:
        return run_seed(seed, seconds, keep=keep, slow=slow)
    except Exception as error:  # noqa: BLE001  the outermost frame of a seed's process
        return unplayed(seed, seconds, error)


def unplayed(seed: int, seconds: float, error: Exception) -> Outcome:
    """The outcome of a run that ``error`` has ended: where it was raised is part of the text."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" ({Path(frame.filename).name}:{frame.lineno})" for frame in last)
    return Outcome(seed, plan(seed, seconds).lines(), [("run", f"{type(error).__name__}: {error}{where}")])
