"""Soak: an instance of real processes trades for a long time while everything around it breaks, and must stay level.

Processes are killed in turn, venues lose requests and answers, edges answer with 403 pages, the executor hangs (so that
the guard takes over); an operator is played who looks every few seconds, resumes and re-arms. At the end everything
heals, the engine trades again, leaves its hedges and stops flat. Judged by the venues' ledger, and by samples: memory
(anonymous pages), descriptors and shared-memory segments of every process must be level per operation, by a slope with
its error. Counted: the share of time in which new risk was possible, and what took the rest; for how long fills stood
alone (p99 1 s, 35 s at most); how soon each process was READY again (p99 of feeds and detector 2 s, executor 5 s, 10 s
after a hang). A breaker that no trouble of the plan explains fails the run, and so does a killed process that never
came back (``soak_bounds.py``).

    python -m tests.campaigns.soak [--minutes 30] [--seed 1] [--out FILE]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import secrets
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from pipeline.execution.journal.guard_journal import whole_journal
from pipeline.model.errors import ArbitrageEngineError
from tests.campaigns.level_fit import HELD_S, Sample, Slope, levels_of, own_bytes, too_steep, unjudged
from tests.campaigns.soak_bounds import UPTIME_MIN, Recovery, not_tried, slow_recoveries, too_naked, unexplained
from tests.worlds.instance_rig import Rig, segments_of
from tests.worlds.judging.naked_spans import naked_spans, spans_text
from tests.worlds.waiting import until
from workers.control_plane.launch import block_new_risk
from workers.control_plane.timer import Timer
from workers.control_socket import ControlError, ask
from workers.demo.run_checker import Violation
from workers.kills.plan import PROFILE, VENUES, venue_trouble
from workers.kills.rig import DRAIN_S
from workers.kills.verdict import Goal, all_met, cut_by_sigterm, verdict
from workers.view.status import Reader

KILLED = ("executor", "feed.mexc", "detector", "recorder", "feed.gateio", "guard", "poller")
KILL_EVERY_S, TROUBLE_EVERY_S, EDGE_EVERY_S, HANG_EVERY_S = 40.0, 15.0, 240.0, 600.0
EDGE_MS, HALTED_S, REFUSED_MS = 20_000, 5.0, 2000.0
LOOK_S, SAMPLE_S, OPERATOR_S, SAY_S = 0.5, 5.0, 3.0, 60.0
KILLS_UNTIL = 0.6  # of the run: the lives after it are long enough to tell a leak from a process that still fills up
CAN_TRADE = ("ready", "degraded")
LOAD: dict[str, Any] = {
    "extends": "demo",
    "name": "soak",
    "dislocations": {"rate_per_s": 8},
}


@dataclass
class Step:
    """Something that happens ``at_s`` after READY."""

    at_s: float
    what: str
    do: Callable[[Rig], object]


@dataclass(slots=True)
class Seen:
    """What was seen from outside while the instance ran. ``down_s``: first reason -> seconds without new risk."""

    samples: list[Sample] = field(default_factory=list)
    recoveries: list[Recovery] = field(default_factory=list)
    up_s: float = 0.0
    down_s: Counter[str] = field(default_factory=Counter)

    @property
    def uptime(self) -> float:
        """Share of time in which new risk was possible; 0 before the first look."""
        all_s = self.up_s + self.down_s.total()
        return self.up_s / all_s if all_s else 0.0


class Watcher(threading.Thread):
    """Looks at the instance from a thread of its own, until :meth:`end`."""

    def __init__(self, rig: Rig, seen: Seen) -> None:
        super().__init__(name="watcher", daemon=True)
        self._rig = rig
        self._reader = Reader(rig.instance)
        self._over = threading.Event()
        self.seen = seen
        self.problem = ""
        self._restarts: Counter[str] = Counter()

    def run(self) -> None:
        """The thread's whole life."""
        try:
            self._watch()
        except Exception as error:  # noqa: BLE001  outermost frame of the thread: the soak fails by it
            self.problem = f"{type(error).__name__}: {error}"

    def end(self) -> Seen:
        """What was seen."""
        self._over.set()
        self.join()
        if self.problem:
            raise RuntimeError(f"the watcher ended: {self.problem}")
        return self.seen

    def _watch(self) -> None:
        began_s = last_s = time.monotonic()
        due_s, operations = began_s, 0
        while not self._over.wait(LOOK_S):
            reading, now_s = self._reader.read(), time.monotonic()
            if reading["state"] in CAN_TRADE:
                self.seen.up_s += now_s - last_s
            else:
                first = next((row["what"] for row in reading["reasons"]), reading["state"])
                self.seen.down_s[_kind(first)] += now_s - last_s  # type: ignore[assignment]
            last_s = now_s
            self._recovered(now_s)
            operations = max(operations, int(reading["orders"].get("operations", 0)))
            if now_s >= due_s:
                due_s = now_s + SAMPLE_S
                self.seen.samples.append(self._sample(now_s - began_s, operations))

    def _recovered(self, now_s: float) -> None:
        """Processes that are READY again since the last look."""
        for name, row in self._rig.engine.describe().get("processes", {}).items():
            if row["ready"] and row["restarts"] > self._restarts[name] and row["recovery_ms"] is not None:
                self._restarts[name] = row["restarts"]
                self.seen.recoveries.append(Recovery(name, now_s, float(row["recovery_ms"])))

    def _sample(self, at_s: float, operations: int) -> Sample:
        found: dict[str, tuple[int, int, int]] = {}
        for name, pid in pids_of(self._rig).items():
            with contextlib.suppress(psutil.Error, OSError):
                process = psutil.Process(pid)
                found[name] = (pid, own_bytes(pid), process.num_fds())
        sizes = []
        for name in segments_of(self._rig.instance):
            with contextlib.suppress(OSError):
                sizes.append((Path("/dev/shm") / name).stat().st_size)
        return Sample(at_s, operations, found, len(sizes), sum(sizes))


def _kind(reason: str) -> str:
    """A reason without what changes from one time to the next."""
    return "".join("#" if letter.isdigit() else letter for letter in reason)[:60]


def pids_of(rig: Rig) -> dict[str, int]:
    """Pids of every process of the engine, by name; the supervisor and its fork server too."""
    rows = rig.engine.describe().get("processes", {})
    found = {name: int(row["pid"]) for name, row in rows.items() if row.get("pid")}
    known = set(found.values())
    found["supervisor"] = rig.engine.pid
    with contextlib.suppress(psutil.Error):
        for child in psutil.Process(rig.engine.pid).children():
            if child.pid not in known:
                found["fork server"] = child.pid
    return found


# --- trouble ---


def plan(seed: int, seconds: float) -> list[Step]:
    """The run's trouble, in order of time; a short run has a little of each kind."""
    rng = random.Random(seed)
    steps: list[Step] = []

    def every(period_s: float, make: Callable[[int], tuple[str, Callable[[Rig], None]]], until: float = 0.9) -> None:
        period_s = min(period_s, seconds / 3)
        at_s, number = period_s * 0.6, 0
        while at_s < seconds * until:
            steps.append(Step(at_s, *make(number)))
            at_s, number = at_s + period_s, number + 1

    def kill(number: int) -> tuple[str, Callable[[Rig], None]]:
        process = KILLED[number % len(KILLED)]
        return f"kill {process}", lambda rig: rig.kill(process)

    def trouble(number: int) -> tuple[str, Callable[[Rig], None]]:
        rule = venue_trouble(rng)
        return str(rule["kind"]), lambda rig: _arm(rig, rule)

    def edge(number: int) -> tuple[str, Callable[[Rig], None]]:
        rule = {"kind": "gateway_page", "venue": VENUES[number % len(VENUES)], "target": "*", "count": 0}
        return "403 pages", lambda rig: rig.fault(**rule, duration_ms=min(EDGE_MS, seconds * 100))

    every(KILL_EVERY_S, kill, KILLS_UNTIL)
    every(TROUBLE_EVERY_S, trouble)
    every(EDGE_EVERY_S, edge)
    if seconds > HANG_EVERY_S:
        every(HANG_EVERY_S, lambda number: ("hang executor", lambda rig: rig.pause("executor", 3.0)), KILLS_UNTIL)
    return sorted(steps, key=lambda step: step.at_s)


def _arm(rig: Rig, rule: dict[str, Any]) -> None:
    if rule["kind"] == "refuse_connect":  # at once: one that lies in wait for the next connection is met by any restart
        rig.fault(**rule, duration_ms=REFUSED_MS)
        rig.fault(kind="disconnect", venue=rule["venue"], target=rule["target"])
        return
    rig.fault(**rule)
    if rule["kind"] == "halt_symbol":
        threading.Timer(HALTED_S, _resume_symbols, [rig]).start()


def _resume_symbols(rig: Rig) -> None:
    with contextlib.suppress(OSError):
        rig.fault(kind="resume_symbol")


@dataclass(slots=True)
class Operator:
    """Looks every few seconds, resumes a halt when everything is READY, re-arms breakers; counts what it did."""

    rig: Rig
    acts: Counter[str] = field(default_factory=Counter)
    _due_s: float = 0.0

    def look(self) -> None:
        """One look, where it is time for one."""
        if time.monotonic() < self._due_s:
            return
        self._due_s = time.monotonic() + OPERATOR_S
        reading = self.rig.reading()
        if reading["halted"] and "fenced" not in str(reading["reasons"]):
            self.acts["resumed: " + _kind(str(reading["halt_reason"]))] += 1
            self.rig.resume()
        for row in reading["breakers"]:
            self.acts[f"re-armed {row['name']}"] += 1
            with contextlib.suppress(ControlError):
                request = {"op": "rearm", "name": row["name"], "reason": "soak", "anyway": True}
                ask(self.rig.engine.state_dir / "executor.sock", request, timeout_s=15.0)


# --- the run ---


@dataclass(slots=True)
class Outcome:
    """What became of a soak. ``levels``: (process, what) -> slope; ``failures``: why it is not as it must be."""

    seconds: float
    seen: Seen
    counts: dict[str, int]
    acts: Counter[str]
    restarts: dict[str, int]
    levels: dict[tuple[str, str], Slope]
    failures: list[str]
    naked_ms: list[float]  # of each operation with a fill
    slow: list[str]  # what came back later than it must; a loaded host can do that, so that tests do not judge it

    def text(self) -> str:
        """For a terminal."""
        down = ", ".join(f"{kind} {spent:.1f} s" for kind, spent in self.seen.down_s.most_common(8))
        lines = [
            f"{self.seconds / 60:.1f} minutes, {self.counts}",
            f"restarts {self.restarts}",
            f"operator {dict(self.acts) or 'had nothing to do'}",
            spans_text(self.naked_ms),
            *(
                spans_text([r.ms for r in self.seen.recoveries if r.process == name], f"{name} READY again,")
                for name in sorted({r.process for r in self.seen.recoveries})
            ),
            f"new risk was possible {100 * self.seen.uptime:.2f} % of the time; without: {down or 'never'}",
        ]
        for (process, what), slope in sorted(self.levels.items()):
            newest = [s.processes[process] for s in self.seen.samples if process in s.processes][-1:]
            now = f", at last {newest[0][1] / 1e6:.1f} MB, {newest[0][2]} descriptors" if newest else ""
            lines.append(
                f"  {process:12} {what:34} {slope.value:+12.5f} +- {slope.error:.5f} "
                f"({slope.samples} samples, {slope.lives} lives{now})"
            )
        failed = [f"FAILED: {text}" for text in (*self.failures, *self.slow)]
        return "\n".join([*lines, *(failed or ["level"])])

    def goals(self) -> list[Goal]:
        """What it must show, each with its figure."""
        return [
            Goal("flat, level and as the ledger says", not self.failures, "; ".join(self.failures)[:1000] or "all"),
            Goal("back in time, nothing naked for long", not self.slow, "; ".join(self.slow)[:1000] or "all"),
            Goal("uptime", self.seen.uptime >= UPTIME_MIN, f"{100 * self.seen.uptime:.2f} %"),
        ]

    def fields(self) -> dict[str, Any]:
        """For a file: everything, the samples too."""
        return {
            "seconds": self.seconds,
            "uptime": self.seen.uptime,
            "down_s": dict(self.seen.down_s),
            "counts": self.counts,
            "operator": dict(self.acts),
            "restarts": self.restarts,
            "levels": [
                {"process": process, "what": what, "slope": slope.value, "error": slope.error}
                for (process, what), slope in self.levels.items()
            ],
            "failures": self.failures,
            "slow": self.slow,
            "naked_ms": self.naked_ms,
            "recoveries": [[r.process, r.at_s, r.ms] for r in self.seen.recoveries],
            "samples": [[s.at_s, s.operations, s.processes, s.segments, s.segment_bytes] for s in self.seen.samples],
        }


def so_far(seen: Seen) -> str:
    """What was seen until now, in one line: a run that is cut has said it."""
    if not seen.samples:
        return "nothing seen yet"
    last, back = seen.samples[-1], Counter(recovery.process for recovery in seen.recoveries)
    sizes = ", ".join(f"{name} {own / 1e6:.0f} MB {files} fds" for name, (_, own, files) in last.processes.items())
    steep = [text for key, slope in levels_of(seen.samples).items() if (text := too_steep(key, slope))]
    late = max((recovery.ms for recovery in seen.recoveries), default=0.0)
    return (
        f"{last.operations} operations, uptime {100 * seen.uptime:.2f} %, {last.segments} segments; "
        f"READY again {dict(back)}, slowest {late:.0f} ms; {sizes}; not level: {'; '.join(steep) or 'nothing'}"
    )


def soak(
    seconds: float, seed: int, say: Callable[[str], None] = lambda text: None, seen: Seen | None = None
) -> Outcome:
    """One soak from the first process to the verdict. ``seen``: what is filled meanwhile, for a caller that may have to
    go without the end."""
    seen = Seen() if seen is None else seen
    with tempfile.TemporaryDirectory() as folder:
        scenario = Path(folder) / "soak.yaml"
        scenario.write_text(json.dumps(LOAD), encoding="utf-8")
        environment = {"ARB_TEST_RETIRE_AFTER_S": str(HELD_S)}
        rig = Rig(f"s-{secrets.token_hex(4)}", scenario=str(scenario), seed=seed, environment=environment, **PROFILE)
        try:
            rig.start()
            names = segments_of(rig.instance)
            watcher, operator = Watcher(rig, seen), Operator(rig)
            watcher.start()
            began_s = time.monotonic()
            hangs_s, edges_s, refusals_s = list[float](), list[float](), list[float]()
            times = {"hang executor": hangs_s, "403 pages": edges_s, "refuse_connect": refusals_s}
            steps, said = plan(seed, seconds), Timer(SAY_S, began_s + SAY_S)
            for step in steps:
                while time.monotonic() < began_s + step.at_s:
                    operator.look()
                    if said.due(time.monotonic()):
                        say(f"{time.monotonic() - began_s:7.1f} s {so_far(seen)}")
                    time.sleep(min(1.0, max(0.0, began_s + step.at_s - time.monotonic())))
                say(f"{time.monotonic() - began_s:7.1f} s {step.what}")
                if step.what in times:
                    times[step.what].append(time.monotonic())
                step.do(rig)
            while time.monotonic() < began_s + seconds:
                operator.look()
                time.sleep(0.2)
            watcher.end()
            say(f"{time.monotonic() - began_s:7.1f} s {so_far(seen)}")
            failures = _ends_flat(rig, operator)
            failures += _segment_failures(rig, names)
            slow = slow_recoveries(seen.recoveries, hangs_s, edges_s, refusals_s)
            outcome = _verdict(rig, seconds, seen, operator, failures, slow)
            outcome.slow += not_tried([step.what for step in steps], seen.recoveries, outcome.counts["operations"])
            return outcome
        finally:
            rig.close()


def _ends_flat(rig: Rig, operator: Operator) -> list[str]:
    """Everything heals, trades again, leaves its hedges; then the orderly end."""
    rig.heal()

    def ready() -> bool:
        operator.look()
        return rig.all_ready()

    until(ready, "every process READY after the faults", DRAIN_S)
    before = rig.counter("entries")

    def trades() -> bool:
        operator.look()
        return rig.counter("entries") > before

    until(trades, "an operation after the faults", DRAIN_S)
    block_new_risk(rig.engine)
    request = {"op": "flatten", "reason": "end of the soak"}

    def no_hedge() -> bool:
        with contextlib.suppress(ControlError):
            ask(rig.engine.state_dir / "executor.sock", request, timeout_s=30.0)
        orders = rig.reading()["orders"]
        return not any(orders.get(name, 1) for name in ("open_hedges", "open_operations", "unsettled_orders"))

    until(no_hedge, "no hedge, no open operation", DRAIN_S)
    return []


def _segment_failures(rig: Rig, names: list[str]) -> list[str]:
    now = segments_of(rig.instance)
    return [] if now == names else [f"segments: {sorted(set(now) ^ set(names))} came or went"]


def _verdict(rig: Rig, seconds: float, seen: Seen, operator: Operator, failures: list[str], slow: list[str]) -> Outcome:
    rows = rig.reading()["processes"]
    restarts = {name: int(row["restarts"]) for name, row in rows.items() if row["restarts"]}
    rig.end()
    violations: list[Violation] = rig.judge()
    failures += [f"{row['invariant']}: {row['text'][:300]}" for row in violations]
    ours, theirs = rig.money()
    if {k: v for k, v in ours.items() if v} != {k: v for k, v in theirs.items() if v}:
        failures.append(f"money differs: engine {ours}, venues {theirs}")
    left = segments_of(rig.instance)
    failures += [f"segments are left behind: {left}"] if left else []
    ledger = rig.ledger()
    placed = [row for row in ledger if row["kind"] == "request" and row.get("operation") == "place"]
    counts = {
        "operations": len({entry.record.operation_id for entry in rig.entries() if _is_operation(entry.record)}),
        "orders": len(placed),
        "fills": sum(row["kind"] == "fill" for row in ledger),
        "requests": sum(row["kind"] == "request" for row in ledger),
    }
    levels = levels_of(seen.samples)
    failures += [text for key, slope in levels.items() if (text := too_steep(key, slope))]
    failures += unjudged(seen.samples, levels, seconds)
    failures += unexplained(entry.record for entry in rig.entries())
    naked = list(naked_spans(ledger, whole_journal(rig.engine.state_dir), time.monotonic_ns()).values())
    slow += too_naked(naked, seen.uptime)
    return Outcome(seconds, seen, counts, operator.acts, restarts, levels, failures, naked, slow)


def _is_operation(record: object) -> bool:
    return type(record).__name__ == "OperationRecord"


def main() -> int:
    """Exit code 1 where the soak is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m tests.campaigns.soak")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", help="JSON with every sample")
    options = parser.parse_args()
    started_s = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    seen = Seen()
    with cut_by_sigterm():
        try:
            outcome = soak(options.minutes * 60, options.seed, say, seen)
        except (AssertionError, ArbitrageEngineError, OSError, RuntimeError, KeyboardInterrupt) as error:
            cut = isinstance(error, KeyboardInterrupt)
            why = "cut" if cut else f"FAILED to run: {error}"
            sys.stdout.write(f"{why} after {time.monotonic() - started_s:.0f} s\n{so_far(seen)}\n")
            goals = [Goal("flat, level and as the ledger says", False, "" if cut else str(error)[:1000])]
            goals += [Goal("uptime", seen.uptime >= UPTIME_MIN, f"{100 * seen.uptime:.2f} %")]
            sys.stdout.write(verdict("soak", goals, cut=cut) + "\n")
            return 1
    if options.out:
        Path(options.out).write_text(json.dumps(outcome.fields()), encoding="utf-8")
    sys.stdout.write(f"{outcome.text()}\n{verdict('soak', outcome.goals())}\n")
    return int(not all_met(outcome.goals()))


if __name__ == "__main__":
    sys.exit(main())
