"""Kill campaign: seeded trouble for a whole instance of real processes, judged by the venues' ledger.

One seed = one run of ``arb up`` on simulated venues: processes are killed and stopped at random moments, the whole
instance is killed and started on the same state, venues lose answers, refuse, go silent, drop and double events; then
everything heals, the engine must take opportunities again, ends, and the checker compares. The same seed gives the same
plan (not the same run: these are real processes).

    python -m tests.campaigns.kills 1:20 [--seconds 12]
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pipeline.execution.crash_points import POINTS
from pipeline.execution.external_records import ExternalFillRecord, ExternalFlowRecord, ExternalPositionRecord
from pipeline.execution.records import BreakerRecord, ExternalRecord
from pipeline.model.errors import ArbitrageEngineError
from tests.worlds.instance_rig import DRAIN_S, Rig
from tests.worlds.waiting import until
from workers.demo.run_checker import Violation, check_collar, check_fresh, check_halt, check_limits, stale_ns
from workers.demo.summary import plain_journal

PROCESSES = ("executor", "detector", "feed.mexc", "feed.gateio", "poller", "recorder", "guard")
WEIGHTS = (6, 2, 2, 2, 1, 1, 1)
VENUES = ("mexc_spot", "gateio_spot", "gateio_futures")
STALE_MAX_MS = 900.0  # lateness that a feed tolerates (500), age limit (100), one publication, scheduling of 2 CPUs
COLLAR_BPS = Decimal(250)  # unwind_max_slippage_bps, and what a book may move in a flight
ONCE_A_LIFE = frozenset({"boot_replayed", "reconciled"})  # who dies there never lives
KILLS_MAX = 3  # of one process in a run: five within a minute are a storm, and that is another test
#: Breakers that a venue's own behaviour may trip here; anything else means that we lost track.
EXPECTED_BREAKERS = ("venue.",)
PROFILE = {
    "execution": {"entry_window_ms": 800, "unknown_grace_ms": 1200},
    "risk_limits": {"max_orders_per_s": 100},
}


@dataclass
class Step:
    """Something that happens ``at_s`` after READY."""

    at_s: float
    what: str
    do: Callable[[Rig], None]


@dataclass
class Outcome:
    """What became of a seed."""

    seed: int
    steps: list[str]
    violations: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    stale_ms: list[float] = field(default_factory=list)


def venue_trouble(rng: random.Random) -> dict[str, Any]:
    """One fault rule."""
    venue = rng.choice(VENUES)
    some = {"venue": venue, "count": rng.randint(1, 4)}
    place = {**some, "target": "place"}
    private = {**some, "target": "private"}
    rules: dict[str, dict[str, Any]] = {
        "drop_response": place,
        "drop_request": place,
        "http_error_after": {**place, "status": rng.choice([500, 502, 504])},
        "http_error": {**place, "status": rng.choice([500, 503])},
        "rate_limit": {**place, "count": 1, "retry_after_s": 1.0},
        "delay_request": {**place, "delay_ms": rng.choice([100, 600, 1500, 2600])},
        "delay_response": {**place, "delay_ms": rng.choice([100, 600, 1500, 2600])},
        "reject": {**place, "reason": "insufficient_balance"},
        "disconnect": {"venue": venue, "target": rng.choice(["public", "private", "all"])},
        "stall_private": {"kind": "stall", "venue": venue, "target": "private", "duration_ms": rng.randint(300, 3000)},
        "stall_public": {"kind": "stall", "venue": venue, "target": "public", "duration_ms": rng.randint(300, 3000)},
        "drop_event": {**private, "count": rng.randint(1, 12)},
        "duplicate_event": {**private, "count": rng.randint(1, 12)},
        "reorder_event": {**private, "count": rng.randint(1, 12)},
        "drop_delta": {**some, "target": "depth"},
        "crossed_delta": {**some, "target": "depth"},
        "corrupt": {**some, "target": rng.choice(["public", "private"])},
        "bad_number": {**some, "target": "public"},
        "refuse_connect": {**some, "target": rng.choice(["public", "private"]), "status": 429},
        "questions": {"kind": "http_error", "venue": venue, "count": 8, "status": 503, "duration_ms": 3000,
                      "target": rng.choice(["order", "trades", "finished_orders", "open_orders", "balances"])},
        "funding": {"venue": "gateio_futures"},
        "halt_symbol": {"venue": venue, "symbol": rng.choice(["BTC_USDT", "ETHUSDT", "SOL_USDT"])},
        "delay_stream": {"venue": venue, "target": rng.choice(["private", "public"]),
                         "delay_ms": rng.choice([300, 1500]), "duration_ms": 2500},
    }  # fmt: skip
    kind = rng.choice(list(rules))
    return {"kind": kind, **rules[kind]}


def plan(seed: int, seconds: float, storm: int = 1) -> list[Step]:
    """The run's trouble, in order of time; ``storm``: how many times the venues' usual share of it."""
    rng = random.Random(seed)
    steps: list[Step] = []

    def add(what: str, do: Callable[[Rig], None]) -> None:
        steps.append(Step(rng.uniform(0.5, seconds), what, do))

    killed: Counter[str] = Counter()
    for _ in range(rng.randint(3, 6)):
        process = rng.choices(PROCESSES, WEIGHTS)[0]
        killed[process] += 1
        if killed[process] <= KILLS_MAX:
            add(f"kill {process}", lambda rig, process=process: rig.kill(process))
    for _ in range(rng.choice([0, 0, 1, 2])):
        venue = rng.choice(VENUES)
        add(f"kill executor with a leg to {venue} in flight", lambda rig, venue=venue: rig.kill_in_flight(venue))
    for _ in range(rng.randint(1, 3)):
        process, pause_s = rng.choices(PROCESSES, WEIGHTS)[0], rng.choice([0.2, 0.7, 1.5, 3.0])
        add(f"stop {process} for {pause_s} s", lambda rig, p=process, s=pause_s: rig.pause(p, s))
    for _ in range(rng.randint(3, 9) * storm):
        rule = venue_trouble(rng)
        words = " ".join(f"{key}={value}" for key, value in rule.items() if key != "kind")
        add(f"{rule['kind']} {words}", lambda rig, rule=rule: rig.fault(**rule))
    fate = rng.random()
    if fate < 0.3:
        add("kill the instance, start it again", lambda rig: (rig.kill_instance(), rig.start_again())[1])
    elif fate < 0.45:
        add("kill the fork server", lambda rig: rig.kill_fork_server())
    elif fate < 0.55:
        add("stop the instance, start it again", lambda rig: (rig.engine.stop(), rig.start_again())[1])
    if rng.random() < 0.3:
        add("halt for a second", lambda rig: rig.halted(1.0))
    return sorted(steps, key=lambda step: step.at_s)


def crash_spec(seed: int) -> str:
    """``ARB_CRASH_AT`` of a seed: every third one's executors also die by themselves, each at the same point."""
    rng = random.Random(~seed)
    point = rng.choice([point for point in POINTS if point not in ONCE_A_LIFE])
    passing = rng.randint(2, 3 if point == "sweep_answered" else 9)
    return "" if seed % 3 else f"{point}:{passing}"


def run_seed(
    seed: int, seconds: float, *, storm: int = 1, scenario: str = "demo", say: Callable[[str], None] = lambda text: None
) -> Outcome:
    """One seed from the first process to the verdict."""
    steps = plan(seed, seconds, storm)
    outcome = Outcome(seed, [f"{step.at_s:.1f} {step.what}" for step in steps])
    execution = {**PROFILE["execution"], "journal_segment_bytes": 64 * 1024 if seed % 2 else 4 * 1024 * 1024}
    config = {**PROFILE, "execution": execution}
    crash = crash_spec(seed)
    outcome.steps.insert(0, f"ARB_CRASH_AT={crash}")
    rig = Rig(
        f"k{seed}-{random.SystemRandom().randrange(16**6):06x}",
        seed=seed,
        scenario=scenario,
        environment={"ARB_CRASH_AT": crash},
        **config,
    )
    try:
        rig.start()
        began = time.monotonic()
        for step in steps:
            time.sleep(max(0.0, began + step.at_s - time.monotonic()))
            say(f"seed {seed}: {time.monotonic() - began:5.1f} s {step.what}")
            step.do(rig)
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        rig.heal()
        if crash:  # the next executors live
            rig.kill_instance()
            rig.start_again()
        if rig.reading()["halted"]:
            outcome.counts["storms"] += 1
            rig.resume()
        _back_to_work(rig, outcome)
        rig.end()
        _judge(rig, outcome)
    finally:
        rig.close()
    return outcome


def _back_to_work(rig: Rig, outcome: Outcome) -> None:
    """Everything READY, and an opportunity taken, after the faults have ended."""
    until(rig.all_ready, "every process READY after the faults", DRAIN_S)
    for name in rig.breakers():
        outcome.counts[f"breaker {name}"] += 1
        if not name.startswith(EXPECTED_BREAKERS):
            outcome.violations.append(
                {"invariant": "back to work", "text": f"breaker {name} tripped: {rig.breakers()[name]}"}
            )
        rig.rearm(name)
    before = rig.counter("entries")
    try:
        until(lambda: rig.counter("entries") > before, "an operation after the faults", DRAIN_S)
    except AssertionError as error:
        refused = rig.reading()["opportunities"]
        outcome.violations.append({"invariant": "back to work", "text": f"{error}; {refused}"})


def _judge(rig: Rig, outcome: Outcome) -> None:
    ledger, entries = rig.ledger(), rig.entries()
    journal, versions = plain_journal(entries), rig.simulator.control("/versions")["rows"]
    outcome.violations += rig.judge()
    outcome.violations += check_halt(ledger, journal, rig.halts)
    outcome.violations += check_fresh(journal, versions, STALE_MAX_MS)
    outcome.violations += check_limits(journal, Decimal(rig.config["risk_limits"]["max_position_size_usd"]))
    outcome.violations += check_collar(ledger, versions, COLLAR_BPS)
    outcome.stale_ms = sorted(ns / 1e6 for ns, _ in stale_ns(journal, versions))
    if any(entry.boot_epoch == 0 for entry in entries):
        outcome.violations.append({"invariant": "I5", "text": "a journal record without its run's epoch"})
    for entry in entries:
        record = entry.record
        if isinstance(record, (ExternalRecord, ExternalFillRecord, ExternalFlowRecord, ExternalPositionRecord)):
            outcome.violations.append({"invariant": "I11", "text": f"nobody else moved anything: {record}"})
        elif isinstance(record, BreakerRecord) and record.tripped:
            outcome.counts[f"tripped {record.name}"] += 1
        outcome.counts[type(record).__name__] += 1
    outcome.counts["starts"] = len({entry.boot_epoch for entry in entries})


def report(outcome: Outcome) -> str:
    """One line, and what was violated."""
    counts, stale = outcome.counts, outcome.stale_ms
    lines = [
        f"seed {outcome.seed}: {len(outcome.violations)} violations; operations {counts['OperationRecord']}, "
        f"orders {counts['OrderIntentRecord']}, fills {counts['FillRecord']}, runs of the executor {counts['starts']}, "
        f"funding {counts['FundingRecord']}, recoveries {counts['RecoveryRecord']}; stale ms p50 "
        f"{stale[len(stale) // 2] if stale else 0:.0f} max {stale[-1] if stale else 0:.0f}; "
        + ", ".join(f"{name} {count}" for name, count in counts.items() if name.startswith(("breaker", "tripped")))
    ]
    lines += [f"  {row['invariant']}: {row['text'][:400]}" for row in outcome.violations]
    if outcome.violations:
        lines += [f"    {step}" for step in outcome.steps]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.kills")
    parser.add_argument("seeds", help="A:B (B excluded) or one seed")
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--storm", type=int, default=1, help="times the usual number of venue faults")
    parser.add_argument("--scenario", default="demo")
    arguments = parser.parse_args()
    first, _, last = arguments.seeds.partition(":")
    bad = 0
    for seed in range(int(first), int(last or int(first) + 1)):
        try:
            outcome = run_seed(seed, arguments.seconds, storm=arguments.storm, scenario=arguments.scenario)
        except (AssertionError, ArbitrageEngineError, OSError, RuntimeError) as error:
            sys.stdout.write(f"seed {seed}: FAILED to run: {error}\n")
            bad += 1
            continue
        bad += bool(outcome.violations)
        sys.stdout.write(report(outcome) + "\n")
        sys.stdout.flush()
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
